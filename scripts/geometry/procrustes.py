"""Generalised Procrustes alignment: shapes of the same landmarks, brought upon their common mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

Array = np.ndarray[Any, np.dtype[Any]]

ROUNDS = 50
SETTLED = 1e-6  # of the first mean's size: by less it need not move any more


def procrustes(
    shapes: Array, start: Array, weights: Array, known: Array, remove_size: bool = False
) -> tuple[Array, Array]:
    """Align shapes by rotation and translation to their mean, which is found in turn.

    Args:
        shapes: (S, N, 3) landmarks of S shapes of the same handedness, mm.
        start: (N, 3) the first mean, which settles the frame, mm.
        weights: (N,) what the landmarks stand for, such as their area.
        known: (S, N) bool, where a shape has the landmark; the others only move along. Each has some.
        remove_size: whether shapes are also scaled to one size, the mean one. Size is the root mean square distance to
            the centre; that of a shape is measured against the mean's at the landmarks that the shape has.

    Returns:
        The aligned shapes (S, N, 3), and their mean (N, 3): where no shape has a landmark, that of `start`.
    """
    aligned, mean = np.empty_like(shapes), start
    settled = SETTLED * _size(start, weights)
    owns = [weights * there for there in known]
    for _ in range(ROUNDS):
        sizes = np.array([_size(shape, own) / _size(mean, own) for shape, own in zip(shapes, owns, strict=True)])
        scales = sizes.mean() / sizes if remove_size else np.ones(len(shapes))
        for number, (shape, own) in enumerate(zip(shapes, owns, strict=True)):
            centre, target = (np.average(points, axis=0, weights=own) for points in (shape, mean))
            turn, _ = Rotation.align_vectors(mean - target, shape - centre, own)
            aligned[number] = scales[number] * turn.apply(shape - centre) + target
        counted = known.sum(axis=0)
        before = mean
        total = (aligned * known[:, :, None]).sum(axis=0)
        mean = np.where(counted[:, None] > 0, total / np.maximum(counted, 1)[:, None], before)
        if np.abs(mean - before).max() < settled:
            break
    return aligned, mean


def _size(points: Array, weights: Array) -> float:
    """Return the root mean square distance of points (N, 3) to their centre."""
    centred = points - np.average(points, axis=0, weights=weights)
    return float(np.sqrt(np.average((centred**2).sum(axis=1), weights=weights)))
