"""NRRD volumes in the world that NIfTI has, and 3D Slicer's segmentations: the names of their labels.

A `.seg.nrrd` is a label map whose header names its segments. Where segments overlap, Slicer writes several label maps
into one file, "layers".
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

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
SEGMENT = re.compile(r"Segment\d+_")  # how the header's fields of a segment begin
NO_NAME = re.compile(r"Segment_\d+")  # a segment that nobody has named
WRITTEN_ON = re.compile(rb"# on [^\n]*\n")  # what would make each file differ from the last
MOST_COMPRESSION = {"bzip2": 50_000, "bz2": 50_000}  # how many times smaller a file may be; gzip: 1032 times
NRRD_ERRORS = (
    *(nrrd.NRRDError, OSError, EOFError, ValueError, LookupError, TypeError, StopIteration, zlib.error),
    *(AttributeError, OverflowError, MemoryError),
)


@dataclass(frozen=True)
class Segment:
    """A segment of 3D Slicer's: its name, and the value and the layer that it has in the file."""

    name: str
    value: int
    layer: int


def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NRRD volume.

    The header gives, per array axis, the step of one sample in its `space`, and the centre of the first sample as
    `space origin`. Spaces of patients differ in the signs of x and y only; NIfTI's is RAS.

    Returns:
        The values (X, Y, Z) in the type stored, or (X, Y, Z, layers) where a segmentation has several layers, axes in
        the file's order (fastest first), and the affine (4, 4), voxel index → world mm, RAS+.

    Raises:
        ValueError: the file is no NRRD, is not 3D, or does not say where it lies in the patient.
    """
    try:
        with open(path, "rb") as file:
            header = nrrd.read_header(file)
            _check_data(header, path.stat().st_size)
            values = nrrd.read_data(header, file)
    except NRRD_ERRORS as error:
        raise ValueError(f"{path} cannot be read as NRRD ({_line(error)}): copy or export it again") from error
    directions, origin = header.get("space directions"), header.get("space origin")
    if values.ndim == 4 and any(key.endswith("_Layer") and SEGMENT.match(key) for key in header):
        values = np.moveaxis(values, 0, -1) if len(values) > 1 else values[0]
        directions = None if directions is None else directions[1:]
        layered = values.ndim == 4
    else:
        layered = False
    space = str(header.get("space", "")).lower()
    if values.ndim != 3 and not layered:
        raise ValueError(f"{path} has the shape {values.shape}, not that of one 3D volume: give one volume a file")
    if space not in TO_RAS or directions is None or origin is None:
        raise ValueError(
            f"{path} does not say where it lies in the patient (space: {space or 'none'}): export it with a space"
        )
    affine = np.eye(4)
    try:
        affine[:3, :3] = np.asarray(directions, dtype=float).T  # a row of the header is an axis' step
        affine[:3, 3] = np.asarray(origin, dtype=float)
        affine[:3] *= np.array(TO_RAS[space])[:, None]
        return values, check_affine(affine)
    except ValueError as error:
        raise ValueError(f"{path}: {_line(error)}: repair the header (space directions, space origin)") from error


def _check_data(header: dict[str, Any], file_bytes: int) -> None:
    """Refuse a header whose data lie in another file, are to be looked for without end, or cannot be in this one.

    Raises:
        ValueError: so it does.
    """
    if any(key in header for key in ("data file", "datafile")):
        raise ValueError("its voxels lie in another file, which is not read")
    if any(abs(header.get(key, 0)) > file_bytes for key in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise ValueError("it skips more than the file has")
    times = MOST_COMPRESSION.get(str(header.get("encoding", "")).lower(), 1100)
    if math.prod(int(n) for n in header.get("sizes", ())) > times * file_bytes:
        raise ValueError("it is truncated")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def segment_names(path: Path) -> dict[int, list[str]]:
    """Return value → names of the segments in a NRRD file's header; {} where it has none, or nobody has named them.

    Raises:
        ValueError: the header cannot be read.
    """
    found = segments_of(path)
    return {one.value: [one.name] for one in found} if any(map(is_named, found)) else {}


def is_named(segment: Segment) -> bool:
    """Whether somebody has given a segment a name."""
    return NO_NAME.fullmatch(segment.name) is None


def segments_of(path: Path, layered: bool = False) -> list[Segment]:
    """Return the segments in a NRRD file's header.

    Args:
        path: of the file.
        layered: whether they are asked for of files with several layers only; [] of others.

    Raises:
        ValueError: the header cannot be read.
    """
    found = []
    try:
        header: dict[str, Any] = nrrd.read_header(str(path))
        if layered and (len(header["sizes"]) != 4 or header["sizes"][0] == 1):
            return []
        for key, value in header.items():
            if SEGMENT.match(key) and key.endswith("_LabelValue"):
                start = key.removesuffix("LabelValue")
                name = str(header.get(f"{start}Name", "")).strip() or f"Segment_{value}"
                found.append(Segment(name, int(value), int(header.get(f"{start}Layer", 0))))
    except NRRD_ERRORS as error:
        raise ValueError(f"{path} cannot be read as NRRD ({_line(error)}): copy or export it again") from error
    return found


def like(stored: np.ndarray, reference: Path) -> bytes:
    """Return a NRRD file of values with the header of another, on the same grid and of the same data type.

    Values are (X, Y, Z), or (layers, X, Y, Z) as the other file has them.

    The segments' extents, which Slicer keeps to save memory, become those of the whole grid.
    """
    before, header = nrrd.read(str(reference))
    for key in header:
        if SEGMENT.match(key) and key.endswith("_Extent"):
            header[key] = " ".join(f"0 {n - 1}" for n in stored.shape[-3:])
    content = BytesIO()
    nrrd.write(content, stored.astype(before.dtype).reshape(before.shape), header)
    start, _, data = content.getvalue().partition(b"\n\n")
    return WRITTEN_ON.sub(b"", start, count=1) + b"\n\n" + data
