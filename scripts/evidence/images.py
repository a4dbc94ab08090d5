"""Intensities of images, normalised as the organ pack says."""

from __future__ import annotations

import numpy as np

from ..organ.imaging import Intensity


def with_gamma(values: np.ndarray, gamma: float) -> np.ndarray:
    """Return `sign(v) |v|^γ`: another contrast, also of intensities that are negative."""
    return np.sign(values) * np.abs(values) ** gamma


def normalise_intensity(image: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return an image with intensities of about unit range.

    Args:
        image: any shape.
        intensity: "minmax" maps the volume's range to [0, 1], "window" `low`..`high`.
    """
    values = image.astype(np.float32)
    if intensity.kind == "zscore":
        return (values - values.mean()) / (values.std() + 1e-6)
    low, high = intensity.low, intensity.high
    if low is None or high is None:
        low, high = float(values.min()), float(values.max())
    return np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
