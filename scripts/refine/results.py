"""From reconstructions to what a case's refinement returns: one label map, and what came of each structure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from ..geometry.boxed import Box, BoxedMask
from ..geometry.shared_surface import shared_surfaces
from ..geometry.simplify import deviation_mm, simplified
from ..geometry.surface import meshing_mm
from ..quality.verdict import Judge
from .draw_mesh import MeshRequest, said_of, shows, spacings
from .merge import describe, merge
from .reconstruction import Reconstruction
from .side_by_side import side_by_side
from .stages import Fitted, Refined, Unrefined
from .uncertainty import summary, uncertainty_mm

AS_USUAL = MeshRequest()


@dataclass(frozen=True)
class Drawn:
    """A fitted structure and its reconstruction, before others are known.

    Attributes:
        fitted: the structure.
        part: its reconstruction.
        judge: predicts its quality; None where the bundle has no predictor.
        mesh: its surface, world mm; None where nothing is left of it, or where surfaces are to share their faces.
        mesh_mm: spacing of the grid that it was drawn on.
    """

    fitted: Fitted
    part: Reconstruction
    judge: Judge | None
    mesh: trimesh.Trimesh | None = None
    mesh_mm: float = 0.0


def results_of(
    drawn: Sequence[Drawn | Unrefined],
    label_map: np.ndarray,
    affine: np.ndarray,
    asked: MeshRequest = AS_USUAL,
) -> tuple[np.ndarray, list[Refined | Unrefined]]:
    """Write structures into a label map.

    Labels do not overlap: a voxel that a structure keeps stays its own; a voxel that two structures would add goes
    to the one whose surface it lies deeper in. New voxels of a structure of several labels take the nearest part's.

    Args:
        drawn: the structures; their labels are those of the label map.
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        asked: of the meshes.

    Returns:
        The refined label map (X, Y, Z), and what came of each structure, in their order.
    """
    refined, after = merge(label_map, affine, [(one.fitted, one.part) for one in drawn if isinstance(one, Drawn)])
    if asked.shared:
        drawn = _shared(drawn, after, affine, asked.mesh_mm)
    for one in drawn:
        if isinstance(one, Unrefined) and one.islands is not None:
            refined[tuple(one.islands.T)] = 0

    def result(one: Drawn | Unrefined) -> Refined | Unrefined:
        return _refined(one, after[one.fitted.name], asked) if isinstance(one, Drawn) else one

    return refined, side_by_side(result, drawn, label_map.size)


def _shared(
    drawn: Sequence[Drawn | Unrefined], after: Mapping[str, BoxedMask], affine: np.ndarray, mesh_mm: float
) -> list[Drawn | Unrefined]:
    """Return the structures, whose voxels are `after` in the refined label map, with meshes that share their faces."""
    parts = {one.fitted.name: one.part for one in drawn if isinstance(one, Drawn)}
    known: dict[str, tuple[Box, np.ndarray]] = {name: (part.box, part.signed_mm) for name, part in parts.items()}
    left = {name: mask for name, mask in after.items() if mask.part.any()}
    for step in spacings(mesh_mm, affine):
        meshes, used = shared_surfaces(after, affine, known, step)
        shown = (shows(meshes.get(name), mask, affine, used) for name, mask in left.items())
        if step <= meshing_mm(affine) or all(shown):
            break
    return [
        replace(one, mesh=meshes.get(one.fitted.name), mesh_mm=used) if isinstance(one, Drawn) else one for one in drawn
    ]


def _refined(drawn: Drawn, after: BoxedMask, asked: MeshRequest) -> Refined:
    """Return the result of a structure whose voxels are `after` in the refined label map, and its predicted quality."""
    begun = time.perf_counter()
    fitted, part, mesh = drawn.fitted, drawn.part, drawn.mesh
    correspondence, seconds, said = None, fitted.seconds, []
    thinned: dict[str, float] = {}
    if mesh is not None and asked.mesh_mm:
        thinned, said = {"mesh_mm": round(drawn.mesh_mm, 3)}, said_of(asked.mesh_mm, drawn.mesh_mm)
    if mesh is not None and asked.faces:
        whole, mesh = mesh, simplified(mesh, asked.faces)
        thinned |= {"mesh_faces": len(mesh.faces), "mesh_deviation_mm": round(deviation_mm(whole, mesh), 3)}
    if mesh is not None:
        correspondence = fitted.fit.correspondence(fitted.prior, np.asarray(mesh.vertices))
        seconds = {**seconds, "correspondence": time.perf_counter() - begun}
    quality = {**describe(fitted, part, after), **thinned}
    quality["warnings"] = [*quality["warnings"], *said]
    if drawn.judge is not None:
        quality |= drawn.judge(quality)
    spread = None
    if asked.uncertain and mesh is not None and not part.doubtful:
        spread = uncertainty_mm(fitted, np.asarray(mesh.vertices))
        quality["uncertainty_mm"] = summary(spread)
    found = {"mesh": mesh, "correspondence": correspondence, "uncertainty_mm": spread}
    return fitted.then(Refined, **found, quality=quality, seconds=seconds)
