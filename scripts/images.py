"""Images on their way into a network: intensity, spacing, and which files train, validate and test it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import (
    MapTransform,
    NormalizeIntensityd,
    ScaleIntensityd,
    ScaleIntensityRanged,
    Spacingd,
)

from .cases import case_name, list_volumes

KINDS = ("zscore", "window", "minmax")
VALIDATION_SHARE = 0.15  # of the files, where the pack names no split of them


class OwnSpacingd(Spacingd):
    """MONAI's `Spacingd`, usable beside entries such as `image_path` that a host puts into the dictionary.

    From MONAI 1.6.0 on `Spacingd` updates every `<key>_*` entry as if it were a mapping. Entries that are none are set
    aside while it runs.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample the keys' images (C, X, Y, Z) to `pixdim` mm."""
        aside = {
            name: value
            for name, value in data.items()
            if not isinstance(value, Mapping) and any(str(name).startswith(f"{key}_") for key in self.keys)
        }
        done = super().__call__({name: value for name, value in data.items() if name not in aside}, lazy=lazy)
        return {**done, **aside}


def unit_intensity(keys: KeysCollection, intensity: Mapping[str, Any]) -> MapTransform:
    """Return the transform that brings an organ's images to [0, 1], where intensity augmentation works.

    Args:
        keys: the images' keys.
        intensity: `kind`: "window" clips to [`low`, `high`], the others take the volume's minimum and maximum.

    Raises:
        ValueError: the kind is unknown, or a window lacks its bounds.
    """
    kind = intensity.get("kind")
    if kind not in KINDS:
        raise ValueError(f"intensity kind '{kind}' is not one of {KINDS}")
    if kind != "window":
        return ScaleIntensityd(keys, minv=0.0, maxv=1.0)
    if not {"low", "high"} <= set(intensity):
        raise ValueError("intensity kind 'window' needs `low` and `high`")
    return ScaleIntensityRanged(keys, a_min=intensity["low"], a_max=intensity["high"], b_min=0.0, b_max=1.0, clip=True)


def network_intensity(keys: KeysCollection, intensity: Mapping[str, Any]) -> MapTransform:
    """Return the transform from [0, 1] to what the network sees, centred on 0, the value that padding has.

    "zscore" images get mean 0 and standard deviation 1 over the whole volume; the others are mapped to [-1, 1].
    """
    if intensity["kind"] == "zscore":
        return NormalizeIntensityd(keys, nonzero=False)
    return ScaleIntensityRanged(keys, a_min=0.0, a_max=1.0, b_min=-1.0, b_max=1.0)


def training_pairs(dataset_dir: str | Path, split: Mapping[str, Sequence[str]], part: str) -> list[dict[str, str]]:
    """List image and label files of one part of a data set with the folders `images` and `labels`.

    The organ pack's split holds where every file it names for the part is there. Other data are split by sorted name:
    the last 15 % (at least one) are both "validation" and "test", the rest is "train".

    Returns:
        One dictionary {"image": path, "label": path} a case; empty where the data set is absent, so that a config can
        be read without its data.

    Raises:
        ValueError: an image has no label of the same name.
    """
    images = Path(dataset_dir) / "images"
    labels = Path(dataset_dir) / "labels"
    if not images.is_dir() or not labels.is_dir():
        return []
    image_files = {case_name(path): path for path in list_volumes(images)}
    label_files = {case_name(path): path for path in list_volumes(labels)}
    missing = sorted(set(image_files) - set(label_files))
    if missing:
        raise ValueError(f"{labels} has no label for {', '.join(missing[:5])}: add it or remove the image")
    cases = [case_name(name) for name in split.get(part, [])]
    if not cases or not set(cases) <= set(image_files):
        ordered = sorted(image_files)
        held_out = max(1, round(VALIDATION_SHARE * len(ordered)))
        cases = ordered[:-held_out] if part == "train" else ordered[-held_out:]
    return [{"image": str(image_files[case]), "label": str(label_files[case])} for case in cases]


def require_data(dataset: Sequence[Any], dataset_dir: str | Path) -> None:
    """Stop with a plain message where a data set is empty.

    Raises:
        ValueError: the data set holds no case.
    """
    if len(dataset) == 0:
        raise ValueError(f"no training data: {dataset_dir} must hold the folders images/ and labels/ with NIfTI files")
