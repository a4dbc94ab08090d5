"""How images reach an organ's networks: intensity, window and augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .checks import OrganError, as_number, flag, number, one_of, refusal, three, whole
from .fields import read, setting

KINDS = ("zscore", "window", "percentiles")
GONE = "minmax"  # a kind until 0.29.0
WHOLE_AXIS = -1


@dataclass(frozen=True)
class Intensity:
    """How an image's intensities are normalised.

    Attributes:
        kind: "zscore" (mean 0, standard deviation 1), "window" (`low`..`high`) or "percentiles" (the volume's range
            without its darkest and brightest 0.5 %).
        low: lower end of the window; None without one.
        high: upper end of the window; None without one.
    """

    kind: str = setting(one_of(KINDS), default="zscore")
    low: float | None = setting(number(-1e6, 1e6), default=None)
    high: float | None = setting(number(-1e6, 1e6), default=None)


def intensity_of(value: Any, where: str) -> Intensity:
    """Check the section `intensity`: a window has both ends, in order, and nothing else has any."""
    if isinstance(value, Mapping) and value.get("kind") == GONE:
        raise OrganError(
            f"{where}: kind '{GONE}' is no more, since metal alone may set an image's range: take 'percentiles', and "
            "train the pack's U-Net anew, if it has one"
        )
    found = read(Intensity, value, where)
    ends = found.low, found.high
    if found.kind != "window" and ends != (None, None):
        raise OrganError(f"{where}: kind '{found.kind}' has no `low` and `high`: remove them, or set kind to window")
    if found.kind == "window" and (found.low is None or found.high is None or found.low >= found.high):
        raise OrganError(f"{where}: kind 'window' needs `low` and `high`: give both, `low` below `high`")
    return found


def _edge(value: Any, where: str) -> int:
    if as_number(value) == WHOLE_AXIS:
        return WHOLE_AXIS
    try:
        return whole(1, 1024)(value, where)
    except OrganError as error:
        raise refusal(where, "a whole number from 1 to 1024, or -1 for the whole axis", value) from error


@dataclass(frozen=True)
class PatchSize:
    """The U-Net's window in voxels, one number an axis; -1 for the whole axis.

    Attributes:
        train: in training.
        infer: in use, of the sliding window.
    """

    train: tuple[int, int, int] = setting(three(_edge), default=(WHOLE_AXIS,) * 3)
    infer: tuple[int, int, int] = setting(three(_edge), default=(WHOLE_AXIS,) * 3)


@dataclass(frozen=True)
class Augment:
    """Random changes of the U-Net's training images.

    Attributes:
        flip: whether the image may be mirrored left to right; then its mirror image is averaged over in use, too.
        rotate_deg: largest rotation about each axis.
        scale: largest relative change of size.
        translate_mm: largest shift along each axis.
    """

    flip: bool = setting(flag, default=False)
    rotate_deg: float = setting(number(0, 180), default=10.0)
    scale: float = setting(number(0, 0.9), default=0.1)
    translate_mm: float = setting(number(0, 1000), default=8.0)
