"""The mask of a study that an annotator has drawn, as a host gives it, in place of a network's."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..geometry.affine import same_grid
from .arrays import file_of
from .errors import CaseError, UnreadableCase, UnrefinableCase
from .find import VOLUMES, case_name
from .read import read_label_map

SENT = "the label that was sent"  # a host gives it a name that the sender does not know
STORE = Path("labels") / "final"  # where MONAI Label keeps submitted labels, beside the images


class CurrentLabeld(MapTransform):
    """Read the current label of a study into `pred`: (1, X, Y, Z) int32.

    The label is the file that `label` names (MONAI Label: the part `label` of the request), else the file of the
    image's name in `labels/final` beside the image, which is where MONAI Label keeps what annotators submit. A request
    can name any file of the server: only one in the study's folder, or one that the host has just received, is read.

    Args:
        keys: where the label map goes.
        image_key: the image (1, X, Y, Z), read but not resampled.
        label_key: the path of the label, where one is given.

    Raises:
        UnreadableCase: there is no label, it lies elsewhere, or it cannot be read.
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
        sent = d.get(self.label_key)
        path = sent_label(sent, file_of(image)) if sent else stored_label(file_of(image))
        name = SENT if path.parent == Path(tempfile.gettempdir()).resolve() else str(path)
        try:
            label = read_label_map(path)
        except CaseError as error:
            raise type(error)(str(error).replace(str(path), name)) from error
        if not same_grid(label.shape[1:], label.affine, image.shape[1:], image.affine):
            raise UnrefinableCase(
                f"{name} of shape {tuple(label.shape[1:])} is not on the grid of {file_of(image)} of shape "
                f"{tuple(image.shape[1:])}: draw or resample it on the image"
            )
        d[self.keys[0]] = label
        return d


def sent_label(label: object, image: str | Path) -> Path:
    """Return the path of a label that comes with a request, if it is one of the study.

    Args:
        label: the path.
        image: path of the study's image.

    Raises:
        UnreadableCase: it is neither in the image's folder nor a file that the host has received: these lie in the
            folder of temporary files, and `tempfile` has named them.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    study = Path(image).resolve().parent
    if isinstance(label, str) and "\0" not in label:
        path = Path(label).resolve()
        if path.parent == temporary and path.name.startswith(tempfile.gettempprefix()):
            return path
        if study != temporary and path.is_relative_to(study):
            return path
    raise UnreadableCase(f"label: {str(label)[:200]!r} is not in the study's folder: send the file, or submit it")


def stored_label(image: str | Path) -> Path:
    """Return the label that a study's annotator has submitted.

    Raises:
        UnreadableCase: there is none.
    """
    folder = Path(image).parent / STORE
    name = case_name(image) if str(image).lower().endswith(VOLUMES) else Path(image).name.split(".")[0]
    for suffix in VOLUMES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise UnreadableCase(
        f"there is no current label {folder / name}.nii.gz: submit one, or send it as `label`; without a host, refine "
        "masks with configs/refine.yaml"
    )


CurrentLabelD = CurrentLabelDict = CurrentLabeld
