"""Images on their way into a network: intensity, spacing, and which files train, validate and test it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, NibabelReader
from monai.transforms import (
    Compose,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityd,
    ScaleIntensityRange,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import ensure_tuple

from ..cases.arrays import file_of
from ..cases.errors import UnreadableCase, UnrefinableCase
from ..cases.find import READ, VOLUMES, case_name, list_images, list_masks
from ..cases.nifti_grid import affine_mm
from ..cases.read import check_header, log_disagreement, open_volume
from ..cases.split import hold_out
from ..geometry.affine import spacing_mm
from ..organ.imaging import Intensity
from ..organ.pack import OrganPack

MUCH_LARGER = 1.5  # times as long along an axis: a whole head in place of a box, say
EXTREMES = 0.5  # percent of the voxels at either end that "percentiles" clips, such as metal
VALIDATION_SHARE = 0.15  # of the files, where the pack names no split of them


class GridReader(NibabelReader):
    """MONAI's reader of NIfTI, for all volumes that the bundle reads, with the affine that it has everywhere.

    See `cases.read` and `cases.nifti_grid`.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all files are such volumes."""
        return all(_is_ours(name) for name in ensure_tuple(filename))

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Open one file or several."""
        self.filenames = ensure_tuple(data)
        images = [open_volume(name) for name in self.filenames]
        return images if len(images) > 1 else images[0]

    def _get_affine(self, img: Any) -> Any:
        return affine_mm(img)


def _is_ours(name: Any) -> bool:
    return str(name).lower().endswith(VOLUMES)


class ReadImaged(LoadImaged):
    """MONAI's `LoadImaged`, which says plainly what is wrong with a file that cannot be read.

    Images that a host has read already are left as they are.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loader.register(GridReader())  # the last one is tried first

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Read the keys' images.

        Raises:
            UnreadableCase: a file does not exist or cannot be read.
            UnrefinableCase: a file is not one 3D volume, or has no usable affine.
        """
        if not all(isinstance(data[key], (str, Path)) for key in self.key_iterator(dict(data))):
            return dict(data)
        for key in self.key_iterator(dict(data)):
            if not str(data[key]) or not Path(data[key]).exists():  # MONAI Label gives "" for a name it does not know
                named = f"'{data[key]}'" if str(data[key]) else "that was asked for"
                raise UnreadableCase(f"the {key} {named} does not exist: check its name")
            if _is_ours(data[key]):
                image = open_volume(data[key])
                check_header(image, data[key])
                log_disagreement(image, data[key])
        try:
            return dict(super().__call__(data, reader))
        except Exception as error:  # every format's reader has errors of its own
            files = ", ".join(str(data[key]) for key in self.key_iterator(dict(data)))
            raise UnreadableCase(
                f"{files} cannot be read as an image ({type(error).__name__}): copy or export it again"
            ) from error


class CheckImaged(MapTransform):
    """Refuses images in which a network sees nothing; changes nothing."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged.

        Raises:
            UnrefinableCase: an image (C, X, Y, Z) holds NaN or infinity, or one value only.
        """
        for key in self.key_iterator(dict(data)):
            values = torch.as_tensor(data[key])
            low, high = values.min(), values.max()  # NaN where one voxel is
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise UnrefinableCase(
                    f"{file_of(data[key])} holds NaN or infinity, of which a network makes an empty mask: replace "
                    "these voxels, for example by the value of air"
                )
            if low == high:
                raise UnrefinableCase(f"{file_of(data[key])} has the same value everywhere: check how it was exported")
        return dict(data)


def too_large(shape: Sequence[int], affine: np.ndarray, known_mm: Sequence[float] | None) -> str:
    """Return what a user is told of an image much larger than those that a U-Net learned from; "" of others.

    Args:
        shape: (X, Y, Z) of the image.
        affine: (4, 4), voxels to mm.
        known_mm: extent of those others, (3,), in RAS; None where it is not known.
    """
    world_axes = np.argsort(nib.orientations.io_orientation(affine)[:, 0])
    extent_mm = np.multiply(shape, spacing_mm(affine))[world_axes]
    if known_mm is None or (extent_mm <= MUCH_LARGER * np.asarray(known_mm)).all():
        return ""
    own, known = (" × ".join(f"{mm:.0f}" for mm in extents) for extents in (extent_mm, known_mm))
    return (
        f"the image is {own} mm large, but the U-Net learned from images of about {known} mm around the organ, and may "
        "find it elsewhere, too: cut the image to such a box"
    )


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


class WithoutExtremesd(MapTransform):
    """Brings images to [0, 1] by their range without the `EXTREMES` at either end, which are clipped.

    Of an image whose other voxels all have one value the whole range is taken.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the keys' images (C, X, Y, Z)."""
        result = dict(data)
        for key in self.key_iterator(result):
            values = torch.as_tensor(result[key]).cpu().numpy()
            low, high = np.percentile(values, [EXTREMES, 100.0 - EXTREMES])
            if low == high:
                low, high = values.min(), values.max()
            result[key] = ScaleIntensityRange(float(low), float(high), 0.0, 1.0, clip=True)(result[key])
        return result


def unit_intensity(keys: KeysCollection, intensity: Intensity) -> MapTransform:
    """Return the transform that brings an organ's images to [0, 1], where intensity augmentation works.

    Args:
        keys: the images' keys.
        intensity: "window" clips to [`low`, `high`], "percentiles" to the volume's range without its extremes, "zscore"
            takes its minimum and maximum.
    """
    if intensity.kind == "percentiles":
        return WithoutExtremesd(keys)
    if intensity.low is None or intensity.high is None:
        return ScaleIntensityd(keys, minv=0.0, maxv=1.0)
    return ScaleIntensityRanged(keys, a_min=intensity.low, a_max=intensity.high, b_min=0.0, b_max=1.0, clip=True)


def network_intensity(keys: KeysCollection, intensity: Intensity) -> MapTransform:
    """Return the transform from [0, 1] to what the network sees, centred on 0, the value that padding has.

    "zscore" images get mean 0 and standard deviation 1 over the whole volume; the others are mapped to [-1, 1].
    """
    if intensity.kind == "zscore":
        return NormalizeIntensityd(keys, nonzero=False)
    return ScaleIntensityRanged(keys, a_min=0.0, a_max=1.0, b_min=-1.0, b_max=1.0)


def to_network(keys: KeysCollection, pack: OrganPack) -> Compose:
    """Return what brings images (1, X, Y, Z) to RAS, and to the spacing and intensity that an organ's U-Net sees."""
    return Compose(
        [
            Orientationd(keys, axcodes="RAS", labels=None),
            OwnSpacingd(keys, pixdim=pack.spacing_mm, mode="bilinear"),
            unit_intensity(keys, pack.intensity),
            network_intensity(keys, pack.intensity),
        ]
    )


def structure_channels(one_hot: torch.Tensor, pack: OrganPack) -> torch.Tensor:
    """Return one channel a structure: (1 + labels, X, Y, Z), background first, → (structures, X, Y, Z)."""
    channel = {value: number for number, value in enumerate(sorted(pack.labels), 1)}
    return torch.stack([one_hot[[channel[v] for v in s.labels]].amax(0) for s in pack.structures])


def training_pairs(dataset_dir: str | Path, split: Mapping[str, Sequence[str]], part: str) -> list[dict[str, str]]:
    """List image and label files of one part of a data set.

    The data set is a folder with the folders `images` and `labels`, or a task of the Medical Segmentation Decathlon
    (`dataset.json`). The organ pack's split holds where every file it names is there; where it has no validation part,
    the last 15 % of its training part (at least one case) are that. Other data are split by sorted name: the last 15 %
    are both "validation" and "test", the rest is "train"; a `dataset.json` may name its own "validation" cases.

    Returns:
        One dictionary {"image": path, "label": path} a case; empty where the data set is absent, so that a config can
        be read without its data.

    Raises:
        ValueError: an image has no label of the same name, or dataset.json cannot be used.
    """
    pairs = _decathlon_pairs(Path(dataset_dir), "training") or _folder_pairs(Path(dataset_dir))
    cases = {key: [case_name(name) for name in names] for key, names in split.items()}
    if not cases.get("train") or not all(set(names) <= set(pairs) for names in cases.values()):
        own = _decathlon_pairs(Path(dataset_dir), "validation")
        train, held_out = (sorted(pairs), sorted(own)) if own else _hold_out(sorted(pairs))
        pairs, cases = {**pairs, **own}, {"train": train, "validation": held_out, "test": held_out}
    elif not cases.get("validation"):
        cases["train"], cases["validation"] = _hold_out(cases["train"])
    return [pairs[case] for case in cases.get(part, [])]


def _hold_out(cases: Sequence[str]) -> tuple[list[str], list[str]]:
    return hold_out(cases, min(len(cases), max(1, round(VALIDATION_SHARE * len(cases)))))


def _folder_pairs(folder: Path) -> dict[str, dict[str, str]]:
    images, labels = folder / "images", folder / "labels"
    if not images.is_dir() or not labels.is_dir():
        return {}
    image_files = {case_name(path): path for path in list_images(images)}
    label_files = {case_name(path): path for path in list_masks(labels)}
    missing = sorted(set(image_files) - set(label_files))
    if missing:
        raise ValueError(f"{labels} has no label for {', '.join(missing[:5])}: add it or remove the image")
    return {case: {"image": str(image_files[case]), "label": str(label_files[case])} for case in image_files}


def _decathlon_pairs(folder: Path, section: str) -> dict[str, dict[str, str]]:
    file = folder / "dataset.json"
    if not file.is_file():
        return {}
    try:
        listed = json.loads(file.read_text(encoding="utf-8")).get(section, [])
        files = [{key: str(folder / pair[key]) for key in ("image", "label")} for pair in listed]
        pairs = {case_name(pair["label"]): pair for pair in files}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no description of a Decathlon task ({error}): download it again") from error
    missing = sorted(path for pair in pairs.values() for path in pair.values() if not Path(path).is_file())
    if missing:
        raise ValueError(f"{file} names {missing[0]}, which is not there: unpack the whole task")
    return pairs


def require_data(dataset: Sequence[Any], dataset_dir: str | Path) -> None:
    """Stop with a plain message where a data set is empty.

    Raises:
        ValueError: the data set holds no case.
    """
    if len(dataset) == 0:
        raise ValueError(
            f"no training data: {dataset_dir} must hold images/ and labels/ with volumes ({READ}), or a dataset.json"
        )
