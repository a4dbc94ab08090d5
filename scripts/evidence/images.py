"""Intensities of images, normalised as the organ pack says."""

from __future__ import annotations

import numpy as np


def with_gamma(values: np.ndarray, gamma: float) -> np.ndarray:
    """Return `sign(v) |v|^γ`: another contrast, also of intensities that are negative."""
    return np.sign(values) * np.abs(values) ** gamma


def normalise_intensity(image: np.ndarray, kind: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return an image with intensities of about unit range.

    Args:
        image: any shape.
        kind: "minmax" (the volume's range to [0, 1]), "window" (`low`..`high` to [0, 1]) or "zscore".
        low: lower end of the window.
        high: upper end of the window.

    Raises:
        ValueError: unknown kind.
    """
    values = image.astype(np.float32)
    if kind == "zscore":
        return (values - values.mean()) / (values.std() + 1e-6)
    if kind == "minmax":
        low, high = float(values.min()), float(values.max())
    elif kind != "window":
        raise ValueError(f"unknown intensity kind '{kind}'; use zscore, window or minmax")
    return np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
