"""What a predictor is told of a mask: figures of its fit, or of an image, on scales that a network can use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

OF_IMAGE = tuple(f"{reader}_{what}" for reader in ("head", "second") for what in ("dice", "hd95"))
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
PLAIN = ("dice_with_fit", "latent_rms", "rotation_deg", "converged")
OF_FIT = (*LENGTHS, *VOLUMES, *RATIOS, *PLAIN)
FEATURES_OF = {"image": OF_IMAGE, "fit": OF_FIT}  # what a predictor is told by; the first that can tell tells

LEAST_LENGTH = 0.02  # of the radius: below it, lengths are alike
LEAST_SHARE = 0.003
DICE_ENDS = (0.01, 0.99)  # the logit's ends


def features(figures: Mapping[str, float | None], told_by: str = "fit") -> np.ndarray:
    """Return the features (F,) float32 of a mask, in the order of `FEATURES_OF`; NaN where there is no figure.

    Args:
        figures: name → number, as `refine.agreement` and `refine.expected` give them.
        told_by: what the predictor is told by.
    """
    return np.array([_scaled(name, figures.get(name)) for name in FEATURES_OF[told_by]], np.float32)


def _scaled(name: str, value: float | None) -> float:
    if value is None:
        return float("nan")
    if name in LENGTHS or name.endswith("hd95"):
        return float(np.arcsinh(value / LEAST_LENGTH))
    if name in OF_IMAGE:
        share = min(max(value, DICE_ENDS[0]), DICE_ENDS[1])
        return float(np.log(share / (1.0 - share)))
    if name in VOLUMES:
        return float(np.log(1.0 + max(value, 0.0) / LEAST_SHARE))
    if name in RATIOS:
        return float(np.log(max(value, 1e-3)))
    return float(value)
