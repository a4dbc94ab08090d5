"""Turns: whether a case would match its anchor clearly better with its axes in another order or reversed.

That is what a mask looks like whose header lost its orientation.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from .affine import Similarity, rotation_angle_deg
from .picct import COARSE_POINTS, MIN_POINTS, MIRROR_X, PICCT, CanonicalTransform, subset

Array = np.ndarray[Any, np.dtype[Any]]

TURNS = [  # what a lost orientation does to world axes: any order of them, any of them reversed
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]
TRIED = 2  # the likeliest
TIGHT_SIGMA = 0.1  # of the anchor's RMS radius; what fits more tightly is not turned
MATCHES = 1.3  # a turn is tried where its start, unaligned, is at most this much farther off than the case aligned
COARSER = 1.1  # by which factor a fit of few points is wider
GAIN = 0.8  # a turned fit must be this much tighter than the one that the header asks for


def better_turned(picct: PICCT, points_world: ArrayLike, found: CanonicalTransform, seed: int = 0) -> str:
    """Say whether a case would match the anchor clearly better with its axes in another order or reversed.

    All turns are compared without alignment, which is fast; the likeliest are aligned, if they come near what was
    found. A case that fits tightly as it is is not turned.

    Args:
        picct: the anchor, and how cases are aligned with it.
        points_world: (N, 3) the points that were aligned, world mm.
        found: their alignment, sound or not.
        seed: of the subsets drawn.

    Returns:
        The turn in words, such as "turned by 90°"; "" where none is clearly better.
    """
    points = np.asarray(points_world, dtype=np.float64)
    if len(points) < MIN_POINTS or not (found.failure or found.sigma > TIGHT_SIGMA * picct.rms_radius):
        return ""
    rng = np.random.default_rng(seed)
    moving, data = subset(points, COARSE_POINTS, rng), subset(picct.anchor_points, COARSE_POINTS, rng)
    start, centre = picct.moment_start(points, found.mirrored), picct.anchor_points.mean(axis=0)
    placed, wanted = start.apply(moving) - centre, data - centre
    of_placed, of_wanted = cKDTree(placed), cKDTree(wanted)

    def gap(moved: Array, turn: Array) -> float:
        """Mean distance between the data and points (M, 3) that a turn of the start has moved."""
        return float(of_wanted.query(moved)[0].mean() + of_placed.query(wanted @ turn)[0].mean())

    aligned = found.similarity.apply(moving) - centre
    own = float(of_wanted.query(aligned)[0].mean() + cKDTree(aligned).query(wanted)[0].mean())
    same = [np.eye(3), start.rotation @ MIRROR_X @ start.rotation.T][: 2 if picct.mirror == "auto" else 1]
    others = [turn for turn in TURNS if not any(np.allclose(turn, known) for known in same)]
    gaps = [gap(placed @ turn.T, turn) for turn in others]
    limit = np.inf if found.failure else GAIN * (COARSER * found.sigma)
    best = None
    for k in np.argsort(gaps)[:TRIED]:
        if gaps[k] > MATCHES * own:
            break
        turn = others[k]
        result = picct.align(moving, data, Similarity(1.0, turn, centre - turn @ centre).compose(start))
        if not result.failure and result.sigma < limit:
            limit, best = result.sigma, turn
    if best is None:
        return ""
    straight = picct.align(moving, data, start).sigma  # 0 where it came to nothing
    return _in_words(best) if not straight > 0 or limit < GAIN * straight else ""


def _in_words(turn: Array) -> str:
    """Say what a turn (3, 3), an orthogonal matrix, does."""
    mirrors = np.linalg.det(turn) < 0
    angle = round(rotation_angle_deg(turn @ MIRROR_X if mirrors else turn))
    return " and ".join([f"turned by {angle}°"] * (angle > 0) + ["mirrored"] * bool(mirrors))
