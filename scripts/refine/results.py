"""From reconstructions to what a case's refinement returns: one label map, and what came of each structure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from ..geometry.boxed import BoxedMask
from ..geometry.shared_surface import shared_surfaces
from ..geometry.simplify import deviation_mm, simplified
from ..quality.verdict import Judge
from .merge import describe, merge
from .reconstruct import Reconstruction
from .stages import Fitted, Refined, Unrefined
from .uncertainty import summary, uncertainty_mm


@dataclass(frozen=True)
class Drawn:
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
    drawn: Sequence[Drawn | Unrefined],
    label_map: np.ndarray,
    affine: np.ndarray,
    mesh_faces: int = 0,
    uncertain: bool = False,
    shared_faces: bool = False,
) -> tuple[np.ndarray, list[Refined | Unrefined]]:
    """Write structures into a label map.

    Labels do not overlap: a voxel that a structure keeps stays its own; a voxel that two structures would add goes
    to the one whose surface it lies deeper in. New voxels of a structure of several labels take the nearest part's.

    Args:
        drawn: the structures; their labels are those of the label map.
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        mesh_faces: about how many triangles a mesh has; 0 for all that it is drawn with.
        uncertain: whether the meshes' vertices get their uncertainty.
        shared_faces: whether meshes of structures that touch share their faces, see `shared_surfaces`.

    Returns:
        The refined label map (X, Y, Z), and what came of each structure, in their order.
    """
    refined, after = merge(label_map, affine, [(one.fitted, one.part) for one in drawn if isinstance(one, Drawn)])
    meshes = None
    if shared_faces:
        parts = {one.fitted.name: one.part for one in drawn if isinstance(one, Drawn)}
        meshes = shared_surfaces(after, affine, {name: (part.box, part.signed_mm) for name, part in parts.items()})
    results: list[Refined | Unrefined] = []
    for one in drawn:
        if isinstance(one, Drawn):
            name = one.fitted.name
            mesh = one.part.mesh if meshes is None else meshes.get(name)
            results.append(_refined(one, after[name], mesh, mesh_faces, uncertain))
            continue
        if one.islands is not None:
            refined[tuple(one.islands.T)] = 0
        results.append(one)
    return refined, results


def _refined(drawn: Drawn, after: BoxedMask, mesh: trimesh.Trimesh | None, mesh_faces: int, uncertain: bool) -> Refined:
    """Return the result of a structure whose voxels are `after` in the refined label map, and its predicted quality."""
    begun = time.perf_counter()
    fitted, part = drawn.fitted, drawn.part
    correspondence, seconds, thinned = None, fitted.seconds, {}
    if mesh is not None and mesh_faces:
        whole, mesh = mesh, simplified(mesh, mesh_faces)
        thinned = {"mesh_faces": len(mesh.faces), "mesh_deviation_mm": round(deviation_mm(whole, mesh), 3)}
    if mesh is not None:
        correspondence = fitted.fit.correspondence(fitted.prior, np.asarray(mesh.vertices))
        seconds = {**seconds, "correspondence": time.perf_counter() - begun}
    quality = {**describe(fitted, part, after), **thinned}
    if drawn.judge is not None:
        quality |= drawn.judge(quality)
    spread = None
    if uncertain and mesh is not None and not part.doubtful:
        spread = uncertainty_mm(fitted, np.asarray(mesh.vertices))
        quality["uncertainty_mm"] = summary(spread)
    found = {"mesh": mesh, "correspondence": correspondence, "uncertainty_mm": spread}
    return fitted.then(Refined, **found, quality=quality, seconds=seconds)
