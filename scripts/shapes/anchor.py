"""The category's anchor, the shape whose frame all others are brought into, and how a case is aligned with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ..geometry.affine import Similarity
from ..geometry.picct import MIN_POINTS, PICCT, normalise
from .border import moved_planes
from .cache import cache_file, digest, load_arrays, save_arrays
from .label_surface import MIRROR, LabelSurface
from .samples import SampleSettings

logger = logging.getLogger(__name__)

N_ANCHOR_POINTS = 2000
SEEN_SHARES = (0.5, 0.65, 0.8, 0.95)  # of a cut shape, tried as starts of its alignment
CUT_SHRINKAGE = 0.1  # pull towards no rotation, which a part of a shape determines less than the whole


@dataclass(frozen=True)
class Anchor:
    """The anchor shape.

    Attributes:
        name: the case.
        key: hash of its surface.
        points: (K, 3) canonical points of its surface.
        scale_mm: mm of one canonical unit.
    """

    name: str
    key: str
    points: np.ndarray
    scale_mm: float

    @classmethod
    def of(cls, surface: LabelSurface, seed: int) -> Anchor:
        """Make a case the anchor: its surface's centroid becomes the origin, its farthest point has radius 0.9."""
        world = surface.points(N_ANCHOR_POINTS, seed)
        frame = normalise(world)
        return cls(surface.name, surface.key, frame.apply(world), 1.0 / frame.scale)


def choose_anchor(surfaces: Sequence[LabelSurface], name: str | None = None) -> int:
    """Index of the anchor: the case of that name or, by default, the medoid of the whole shapes.

    The medoid is the shape whose signed distance grid, once position and size are taken out, differs least on average
    from those of all others. Cut shapes are candidates only where there is no whole one. Of the sides of a pair whose
    one is always mirrored, the anchor is on the other.

    Raises:
        ValueError: no usable case has that name, or it is always mirrored.
    """
    plain = [i for i, surface in enumerate(surfaces) if surface.mirror != "always"] or list(range(len(surfaces)))
    if name is not None:
        for index, surface in enumerate(surfaces):
            if name in (surface.name, surface.name.removesuffix(".gz").removesuffix(".nii")):
                if index in plain:
                    return index
                raise ValueError(f"--anchor {name}: the pack always mirrors this side: choose one of the other side")
        raise ValueError(f"--anchor {name}: no usable training shape has this name")
    candidates = [i for i in plain if not surfaces[i].is_cut] or plain
    grids = np.stack([surfaces[i].descriptor for i in candidates])
    costs = [float(np.abs(grids - grid).mean(axis=1).sum()) for grid in grids]
    return candidates[int(np.argmin(costs))]


def align(surface: LabelSurface, anchor: Anchor, settings: SampleSettings, cache_dir: Path) -> tuple[Similarity, str]:
    """Bring a case into the anchor's frame; cached.

    Returns:
        The similarity from world mm to canonical, and the key of the alignment.

    Raises:
        ValueError: the alignment failed.
    """
    key = digest("align", surface.key, anchor.key, settings.picct_points, surface.mirror, settings.seed)
    cached = cache_file(cache_dir, "align", key)
    if not cached.is_file():
        points = surface.points(4 * settings.picct_points, settings.seed)
        if surface.is_cut:
            similarity, failure = align_cut(points, surface.planes, surface.mirror, anchor, settings)
        else:
            picct = PICCT(anchor.points, anchor.scale_mm, n_points=settings.picct_points, mirror=surface.mirror)
            transform = picct(points, seed=settings.seed)
            similarity, failure = transform.similarity, transform.failure
        parts = {"scale": np.array(similarity.scale), "rotation": similarity.rotation}
        save_arrays(cached, {**parts, "translation": similarity.translation, "failure": np.array(failure)})
    data = load_arrays(cached)
    if str(data["failure"]):
        raise ValueError(f"cannot be aligned: {data['failure']}")
    return Similarity(float(data["scale"]), data["rotation"], data["translation"]), key


def align_cut(
    points_world: np.ndarray, planes: np.ndarray, mirror: str, anchor: Anchor, settings: SampleSettings
) -> tuple[Similarity, str]:
    """Bring what is seen of a cut shape into the anchor's frame.

    CPD with the roles exchanged: the anchor is what moves, and the seen points are the data. So each seen point must
    be explained by the anchor, but what the anchor has beyond the border need not be explained. EM starts at the
    anchor's own size, with the seen points on the anchor's part away from the border, for several sizes of that part;
    the tightest fit wins.

    Args:
        points_world: (N, 3) points of the seen surface, world mm.
        planes: (P, 4) the borders, world mm.
        mirror: whether it may be mirrored: "never", "auto" or "always".
        anchor: the anchor.
        settings: number of points, seed.

    Returns:
        World mm to canonical, and why it cannot be trusted ("" where it can).
    """
    if len(points_world) < MIN_POINTS:
        return Similarity.identity(), f"only {len(points_world)} points of its surface are seen"
    plain = Similarity.identity()
    sides = {"never": [plain], "always": [MIRROR], "auto": [plain, MIRROR]}[mirror]
    fits, failure = [], ""
    for side, share in product(sides, SEEN_SHARES):
        normals = moved_planes(planes, side)[:, :3]
        depths = anchor.points @ normals.T
        seen = (depths >= np.quantile(depths, 1.0 - share, axis=0)).all(axis=1)
        if seen.sum() < MIN_POINTS:
            continue
        turn = Similarity(1.0 / anchor.scale_mm, side.rotation, np.zeros(3))
        shift = anchor.points[seen].mean(axis=0) - turn.apply(points_world).mean(axis=0)
        start = Similarity(turn.scale, turn.rotation, shift)
        seen_points = start.apply(points_world)
        data = PICCT(seen_points, 1.0, n_points=settings.picct_points, rotation_shrinkage=CUT_SHRINKAGE)
        found = data.from_start(anchor.points, plain, seed=settings.seed)
        if found.failure:
            failure = found.failure
            continue
        fits.append((found.sigma / found.similarity.scale, found.similarity.inverse().compose(start)))
    if not fits:
        return plain, failure or "too little of it is seen"
    return min(fits, key=lambda fit: fit[0])[1], ""
