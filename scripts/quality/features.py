"""What a predictor is told of a mask: the figures of its agreement with its fit, on scales that a network can use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LENGTHS = (  # shares of the shape's radius; they span from 0.01 to 10
    *(f"mask_to_fit_p{p}" for p in (2, 10, 50, 90, 98)),
    *(f"{pair}_p{p}" for pair in ("fit_to_mask", "mask_to_linear", "fit_to_linear") for p in (50, 90, 98)),
    *(f"mask_to_context_p{p}" for p in (50, 90, 98)),
    "residual_median",
    "residual_p90",
    "voxel",
)
VOLUMES = ("beyond_fit", "lacks_of_fit", "beside_largest", "holes", "changed", "at_border")  # shares, mostly near 0
RATIOS = ("surface_ratio", "scale", "pieces")  # about 1, or more
PLAIN = ("dice_with_fit", "latent_rms", "rotation_deg", "converged", "expected_dice")
FEATURES = (*LENGTHS, *VOLUMES, *RATIOS, *PLAIN)

LEAST_LENGTH = 0.02  # of the radius: below it, lengths are alike
LEAST_SHARE = 0.003


def features(figures: Mapping[str, float | None]) -> np.ndarray:
    """Return the features (F,) float32 of a mask, in the order of `FEATURES`; NaN where there is no figure.

    Args:
        figures: name → number, as `refine.agreement` gives them.
    """
    return np.array([_scaled(name, figures.get(name)) for name in FEATURES], np.float32)


def _scaled(name: str, value: float | None) -> float:
    if value is None:
        return float("nan")
    if name in LENGTHS:
        return float(np.arcsinh(value / LEAST_LENGTH))
    if name in VOLUMES:
        return float(np.log(1.0 + max(value, 0.0) / LEAST_SHARE))
    if name in RATIOS:
        return float(np.log(max(value, 1e-3)))
    return float(value)
