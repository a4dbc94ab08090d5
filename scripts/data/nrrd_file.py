"""NRRD volumes in the world that NIfTI has."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np

from ..geometry.affine import check_affine

TO_RAS = {  # the header's space → factors that turn its axes to the right, to the front and up
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "ras": (1, 1, 1),
    "las": (-1, 1, 1),
    "lps": (-1, -1, 1),
}


def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NRRD volume.

    The header gives, per array axis, the step of one sample in its `space`, and the centre of the first sample as
    `space origin`. Spaces of patients differ in the signs of x and y only; NIfTI's is RAS.

    Returns:
        The values (X, Y, Z) in the type stored, axes in the file's order (fastest first), and the affine (4, 4),
        voxel index → world mm, RAS+.

    Raises:
        ValueError: the file is no NRRD, is not 3D, or does not say where it lies in the patient.
    """
    try:
        values, header = nrrd.read(str(path))
    except (nrrd.NRRDError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as NRRD ({error}): copy it again") from error
    space = str(header.get("space", "")).lower()
    directions, origin = header.get("space directions"), header.get("space origin")
    if values.ndim != 3:
        raise ValueError(f"{path} has the shape {values.shape}, not that of one 3D volume")
    if space not in TO_RAS or directions is None or origin is None:
        raise ValueError(f"{path} does not say where it lies in the patient (space: {space or 'none'})")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float).T  # a row of the header is an axis' step
    affine[:3, 3] = np.asarray(origin, dtype=float)
    affine[:3] *= np.array(TO_RAS[space])[:, None]
    return values, check_affine(affine)
