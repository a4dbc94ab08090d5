"""Writing the results of a case: masks on the grid they came from, and meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cases import CASE
from .geometry.surface import write_mesh
from .io import copy_volume, whole_file, write_label_map


class CaseWriter:
    """Writes `<output_dir>/<case>/<case>_initial.nii.gz`, `_refined.nii.gz`, `_<structure>.stl` and `.ply`.

    The PLY is the same mesh, with a colour and the template's point a vertex (see `Correspondence`).

    It is not one of the postprocessing transforms, because MONAI Label and Deploy run those and write by themselves.

    Args:
        output_dir: folder of the results, made if need be.
        source: key of the file whose header the masks take: "pred" where masks are refined (they keep its data type,
            and an initial mask is a copy of it), "image" where images are segmented (masks are uint8).
    """

    def __init__(self, output_dir: str | Path, source: str = "pred") -> None:
        self.output_dir = Path(output_dir)
        self.source = source

    def check(self) -> None:
        """Make the output folder and try it.

        Raises:
            OSError: nothing can be written there.
        """
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with whole_file(self.output_dir / "report.json.probe") as temporary:
            temporary.touch()
        (self.output_dir / "report.json.probe").unlink()

    def write(self, paths: dict[str, Any], data: dict[Any, Any]) -> dict[str, str]:
        """Write the results of a case.

        Args:
            paths: the case's dictionary of paths.
            data: the case after the chain: `initial` and `pred` (1, X, Y, Z), `pred_shapes`; without `pred_shapes`
                no refinement was asked for and `pred` is the initial mask.

        Returns:
            What → path of the files written.

        Raises:
            OSError: a file cannot be written.
        """
        refine = "pred_shapes" in data
        outputs = {"initial": self._write_mask(paths, "initial", data["initial"] if refine else data["pred"])}
        if refine:
            outputs["refined"] = self._write_mask(paths, "refined", data["pred"])
            for shape in data["pred_shapes"]:
                if shape.mesh is not None:
                    outputs[shape.name] = str(self._path(paths, f"{shape.name}.stl"))
                    write_mesh(self._path(paths, f"{shape.name}.stl"), shape.mesh)
                if shape.mesh is not None and shape.correspondence is not None:
                    target = self._path(paths, f"{shape.name}.ply")
                    write_mesh(target, shape.mesh, shape.correspondence.vertex_data())
                    outputs[f"{shape.name}_correspondence"] = str(target)
        return outputs

    def keep(self, paths: dict[str, Any], data: dict[Any, Any]) -> dict[str, str]:
        """Write the initial mask as the refined one too; {} where there is none (see `write`)."""
        if self.source != "pred" and "initial" not in data:
            return {}
        return {stage: self._write_mask(paths, stage, data.get("initial")) for stage in ("initial", "refined")}

    def _path(self, paths: dict[str, Any], ending: str) -> Path:
        folder = self.output_dir / paths[CASE]
        folder.mkdir(exist_ok=True)
        return folder / f"{paths[CASE]}_{ending}"

    def _write_mask(self, paths: dict[str, Any], stage: str, mask: torch.Tensor | None) -> str:
        target, source = self._path(paths, f"{stage}.nii.gz"), paths[self.source]
        if self.source == "pred" and (stage == "initial" or mask is None):
            copy_volume(source, target)
        else:
            write_label_map(target, as_labels(mask), source, None if self.source == "pred" else "uint8")
        return str(target)


def as_labels(mask: Any) -> np.ndarray:
    """Return a label map tensor (1, X, Y, Z) as an integer array (X, Y, Z).

    Raises:
        RuntimeError: it is not of that shape.
    """
    values = torch.as_tensor(mask).detach().cpu().numpy()
    if values.ndim != 4 or values.shape[0] != 1:
        raise RuntimeError(f"a label map must be (1, X, Y, Z), got {values.shape}")
    return np.rint(values[0]).astype(np.int64)
