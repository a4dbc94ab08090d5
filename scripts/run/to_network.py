"""An image on its way into the U-Net of the organ that is asked for, which is known only once the request is read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Compose, CopyItemsd, InvertibleTransform, MapTransform

from ..unet.images import CheckImaged, to_network, too_large
from .options import is_true
from .request import OpenRequest


class ToNetworkd(MapTransform, InvertibleTransform):
    """Bring an image (1, X, Y, Z) to RAS, and to the spacing and intensity of the organ's U-Net.

    `image_said` holds what a user is to know of the image, "" for nothing: a text, since in a batch MONAI makes `None`
    of empty lists. Nothing is done where the mask is given. `inverse` goes back to the image's own grid.

    Args:
        keys: the image.
        request: names the organ.
        seen_key: where a copy of the image as it is goes, if a voxel head will see it.
        image_evidence: whether it may.
    """

    def __init__(
        self, keys: KeysCollection, request: OpenRequest, seen_key: str = "seen", image_evidence: object = True
    ) -> None:
        super().__init__(keys)
        self.request = request
        self.seen_key = seen_key
        self.image_evidence = is_true(image_evidence)
        self.chain = Compose()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the image as the network sees it."""
        d = dict(data)
        request = self.request.settled
        if request.has_mask:
            return d
        d = dict(CheckImaged(self.keys)(d))
        if self.image_evidence and request.refiner is not None and request.refiner.head is not None:
            d = CopyItemsd(self.keys, names=self.seen_key)(d)
        pack = request.pack
        self.chain = to_network(self.keys, pack)
        said = {
            f"{key}_said": too_large(data[key].shape[1:], data[key].affine, pack.image_mm)
            for key in self.key_iterator(dict(data))
        }
        return {**self.chain(d), **said}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the image's grid undone."""
        return dict(self.chain.inverse(dict(data)))


ToNetworkD = ToNetworkDict = ToNetworkd
