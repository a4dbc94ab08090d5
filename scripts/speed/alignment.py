"""Rigid coherent point drift of a surface against an anchor: pycpd as it comes, and PICCT."""

from __future__ import annotations

import numpy as np
import trimesh
from pycpd import RigidRegistration
from scipy.spatial.transform import Rotation

from ..geometry.affine import Similarity
from ..geometry.picct import PICCT
from ..geometry.surface import sample_surface
from ..prior.prior import ShapePrior, template_surface
from ..refine.steps import ALIGNMENT_POINTS
from .compare import Task

VERTICES = 2000
TURN_DEG, MOVED_MM, SCALED = (8.0, -6.0, 10.0), (7.0, -4.0, 5.0), 0.93
MOST = 0.05  # of the radius: about half the distance of neighbouring points


def alignment(prior: ShapePrior, vertices: int = VERTICES) -> Task:
    """Return the alignment of a prior's template, turned, moved and scaled, with itself."""
    surface = template_surface(prior.field)
    anchor, _ = sample_surface(surface, vertices, seed=0)
    rotation = Rotation.from_euler("xyz", TURN_DEG, degrees=True).as_matrix()
    to_world = Similarity(SCALED * prior.scale_mm, rotation, np.array(MOVED_MM))
    points_world, _ = sample_surface(trimesh.Trimesh(to_world.apply(surface.vertices), surface.faces), vertices, seed=1)
    picct = PICCT(anchor, prior.scale_mm, n_points=ALIGNMENT_POINTS)
    start = picct.moment_start(points_world, mirrored=False)  # pycpd needs one: it starts from where the points are
    radius = float(np.linalg.norm(anchor, axis=1).mean())

    def by_pycpd() -> np.ndarray:
        moved, _ = RigidRegistration(X=anchor, Y=start.apply(points_world)).register()
        return np.asarray(moved)

    def by_picct() -> np.ndarray:
        return picct(points_world).to_canonical(points_world)

    return Task(
        f"alignment of {vertices:,} surface points",
        "pycpd's rigid registration of all of them",
        f"PICCT: {ALIGNMENT_POINTS} of them, coarse to fine, in blocks",
        by_pycpd,
        by_picct,
        lambda plain, ours: float(np.linalg.norm(plain - ours, axis=1).mean()) / radius,
        MOST,
        "of the radius, mean of the points",
    )
