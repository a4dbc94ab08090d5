"""From reconstructions to what a case's refinement returns: one label map, and what came of each structure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from ..geometry.affine import box_affine, spacing_mm
from ..geometry.boxed import Box, BoxedMask
from ..geometry.shared_surface import shared_surfaces
from ..geometry.simplify import deviation_mm, simplified
from ..geometry.surface import crop_box, mask_signed_distance, meshing_mm, with_neighbours
from ..quality.verdict import Judge
from .draw_mesh import LIMIT_MM, MeshRequest, draw_mesh, said_of, shows, spacings
from .merge import describe, merge
from .reconstruction import Reconstruction
from .side_by_side import side_by_side
from .stages import Fitted, Refined, Unrefined
from .uncertainty import summary, uncertainty_mm

AS_USUAL = MeshRequest()


@dataclass(frozen=True)
class Reconstructed:
    """A fitted structure and its reconstruction, before others are known.

    Attributes:
        fitted: the structure.
        part: its reconstruction.
        judge: predicts its quality; None where the bundle has no predictor.
    """

    fitted: Fitted
    part: Reconstruction
    judge: Judge | None


def results_of(
    reconstructed: Sequence[Reconstructed | Unrefined],
    label_map: np.ndarray,
    affine: np.ndarray,
    asked: MeshRequest = AS_USUAL,
) -> tuple[np.ndarray, list[Refined | Unrefined]]:
    """Write structures into a label map, and draw the meshes of what it then shows.

    Labels do not overlap, see `merge`. New voxels of a structure of several labels take the nearest part's.

    Args:
        reconstructed: the structures; their labels are those of the label map.
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        asked: of the meshes.

    Returns:
        The refined label map (X, Y, Z), and what came of each structure, in their order.
    """
    known = [one for one in reconstructed if isinstance(one, Reconstructed)]
    refined, after = merge(label_map, affine, [(one.fitted, one.part) for one in known])
    shared = _shared(known, after, affine, asked.mesh_mm) if asked.shared else None
    for one in reconstructed:
        if isinstance(one, Unrefined) and one.islands is not None:
            refined[tuple(one.islands.T)] = 0

    def result(one: Reconstructed | Unrefined) -> Refined | Unrefined:
        if isinstance(one, Unrefined):
            return one
        name = one.fitted.name
        if shared is not None:
            return _refined(one, after[name], shared[0].get(name), shared[1], asked)
        begun = time.perf_counter()
        mesh, used = _alone(one, after[name], asked.mesh_mm)
        seconds = one.fitted.seconds
        seconds = {**seconds, "reconstruct": seconds["reconstruct"] + time.perf_counter() - begun}
        return _refined(replace(one, fitted=replace(one.fitted, seconds=seconds)), after[name], mesh, used, asked)

    return refined, side_by_side(result, reconstructed, max((one.part.fit.size for one in known), default=0))


def _alone(one: Reconstructed, after: BoxedMask, mesh_mm: float) -> tuple[trimesh.Trimesh | None, float]:
    """Return a structure's mesh, world mm, and the spacing of the grid that it was drawn on."""
    part, affine = one.part, one.fitted.affine
    signed_mm, inside = part.signed_mm, after[part.box]
    to_others = (signed_mm < 0) & ~inside
    if to_others.any():
        around = crop_box(to_others, 4)
        near = with_neighbours(with_neighbours(to_others[around]))
        anew_mm = mask_signed_distance(inside[around], spacing_mm(affine), LIMIT_MM)
        signed_mm = signed_mm.copy()
        signed_mm[around] = np.where(near, anew_mm, signed_mm[around])
    return draw_mesh(signed_mm, box_affine(affine, [side.start for side in part.box]), mesh_mm)


def _shared(
    reconstructed: Sequence[Reconstructed], after: Mapping[str, BoxedMask], affine: np.ndarray, mesh_mm: float
) -> tuple[dict[str, trimesh.Trimesh], float]:
    """Return meshes that share their faces, of structures whose voxels are `after`, and their grid's spacing."""
    parts: dict[str, tuple[Box, np.ndarray]] = {
        one.fitted.name: (one.part.box, one.part.signed_mm) for one in reconstructed
    }
    left = {name: mask for name, mask in after.items() if mask.part.any()}
    for step in spacings(mesh_mm, affine):
        meshes, used = shared_surfaces(after, affine, parts, step)
        shown = (shows(meshes.get(name), mask, affine, used) for name, mask in left.items())
        if step <= meshing_mm(affine) or all(shown):
            break
    return meshes, used


def _refined(
    reconstructed: Reconstructed, after: BoxedMask, mesh: trimesh.Trimesh | None, mesh_mm: float, asked: MeshRequest
) -> Refined:
    """Return the result of a structure whose voxels are `after` in the refined label map, and its predicted quality."""
    begun = time.perf_counter()
    fitted, part = reconstructed.fitted, reconstructed.part
    correspondence, seconds, said = None, fitted.seconds, []
    thinned: dict[str, float] = {}
    if mesh is not None and asked.mesh_mm:
        thinned, said = {"mesh_mm": round(mesh_mm, 3)}, said_of(asked.mesh_mm, mesh_mm)
    if mesh is not None and asked.faces:
        whole, mesh = mesh, simplified(mesh, asked.faces)
        thinned |= {"mesh_faces": len(mesh.faces), "mesh_deviation_mm": round(deviation_mm(whole, mesh), 3)}
    if mesh is not None:
        correspondence = fitted.fit.correspondence(fitted.prior, np.asarray(mesh.vertices))
        seconds = {**seconds, "correspondence": time.perf_counter() - begun}
    quality = {**describe(fitted, part, after), **thinned}
    quality["warnings"] = [*quality["warnings"], *said]
    if reconstructed.judge is not None:
        quality |= reconstructed.judge(quality)
    spread = None
    if asked.uncertain and mesh is not None and not part.doubtful:
        spread = uncertainty_mm(fitted, np.asarray(mesh.vertices))
        quality["uncertainty_mm"] = summary(spread)
    found = {"mesh": mesh, "correspondence": correspondence, "uncertainty_mm": spread}
    return fitted.then(Refined, **found, quality=quality, seconds=seconds, seen=None)  # it holds whole volumes
