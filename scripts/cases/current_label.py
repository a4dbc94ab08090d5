"""The mask of a study that an annotator has drawn, as a host gives it, in place of a network's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..geometry.affine import same_grid
from .find import SUFFIXES, case_name
from .io import UnreadableCase, UnrefinableCase, file_of, read_label_map

STORE = Path("labels") / "final"  # where MONAI Label keeps submitted labels, beside the images


class CurrentLabeld(MapTransform):
    """Read the current label of a study into `pred`: (1, X, Y, Z) int32.

    The label is the file that `label` names (MONAI Label: the part `label` of the request), else the file of the
    image's name in `labels/final` beside the image, which is where MONAI Label keeps what annotators submit.

    Args:
        keys: where the label map goes.
        image_key: the image (1, X, Y, Z), read but not resampled.
        label_key: the path of the label, where one is given.

    Raises:
        UnreadableCase: there is no label, or it cannot be read.
        UnrefinableCase: it is no label map, or not on the image's grid.
    """

    def __init__(self, keys: KeysCollection = "pred", image_key: str = "image", label_key: str = "label") -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill `pred`."""
        d = dict(data)
        image: MetaTensor = d[self.image_key]
        path = d.get(self.label_key) or stored_label(file_of(image))
        label = read_label_map(path)
        if not same_grid(label.shape[1:], label.affine, image.shape[1:], image.affine):
            raise UnrefinableCase(
                f"{path} of shape {tuple(label.shape[1:])} is not on the grid of {file_of(image)} of shape "
                f"{tuple(image.shape[1:])}: draw or resample it on the image"
            )
        d[self.keys[0]] = label
        return d


def stored_label(image: str | Path) -> Path:
    """Return the label that a study's annotator has submitted.

    Raises:
        UnreadableCase: there is none.
    """
    folder = Path(image).parent / STORE
    name = case_name(image) if str(image).lower().endswith(SUFFIXES) else Path(image).name.split(".")[0]
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise UnreadableCase(f"there is no current label {folder / name}.nii.gz: submit one, or send it as `label`")


CurrentLabelD = CurrentLabelDict = CurrentLabeld
