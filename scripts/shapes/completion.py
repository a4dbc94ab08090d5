"""What is unknown of cut shapes, predicted from how whole shapes vary."""

from __future__ import annotations

import numpy as np

NOISE_SHARE = 0.05  # of a shape's variance that the modes are not asked to explain


def complete_grids(grids: np.ndarray, known: np.ndarray, n_train: int, n_modes: int = 8, rounds: int = 6) -> np.ndarray:
    """Fill in what is unknown of signed distance grids, by the modes in which the known parts vary.

    Unknown entries begin as the mean over the shapes in which they are known (where there is none, as they are given);
    then, by turns, modes are fitted to the filled grids and each grid's unknown part is predicted from the least
    squares fit, shrunk by the modes' spread, of its known part.

    Args:
        grids: (S, G, G, G) signed distances.
        known: (S, G, G, G) bool.
        n_train: the first so many shapes make the model; all are completed.
        n_modes: modes of the model, at most n_train - 1.
        rounds: how often modes and fillings are renewed.

    Returns:
        (S, G, G, G) float32; known entries are unchanged.
    """
    rows = grids.reshape(len(grids), -1).astype(np.float64)
    seen = known.reshape(len(grids), -1)
    counts = seen[:n_train].sum(axis=0)
    mean = np.where(seen[:n_train], rows[:n_train], 0.0).sum(axis=0) / np.maximum(counts, 1)
    filled = np.where(seen | (counts == 0), rows, mean)
    kept = min(n_modes, n_train - 1)
    for _ in range(rounds):
        centre = filled[:n_train].mean(axis=0)
        _, values, modes = np.linalg.svd(filled[:n_train] - centre, full_matrices=False)
        basis = modes[:kept] * values[:kept, None] / np.sqrt(n_train - 1)
        for row, given, own in zip(filled, rows, seen, strict=True):
            if own.all():
                continue
            part, residual = basis[:, own], given[own] - centre[own]
            noise = max(NOISE_SHARE * float((residual**2).mean()), 1e-6)
            scores = np.linalg.solve(part @ part.T / noise + np.eye(kept), part @ residual / noise)
            row[:] = np.where(own, given, centre + scores @ basis)
    return filled.reshape(grids.shape).astype(np.float32)
