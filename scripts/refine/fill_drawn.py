"""The transform that fills label maps of a few drawn slices."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.arrays import file_of, label_array, like
from ..cases.errors import UnrefinableCase
from ..cases.find import CASE
from .chain import Refiner
from .drawing import Drawing
from .slices_file import SlicesFile

logger = logging.getLogger(__name__)

DRAWN = "_drawn"


class FillDrawnd(MapTransform):
    """Fills a label map of a few drawn slices between them, see `drawing`.

    Adds `<key>_drawn`, the `Drawing`, for the steps that follow.

    Args:
        keys: the label map.
        refiner: of the organ.
        sparse: whether there are but a few slices; otherwise nothing is done.
        slices_file: names the slices of some cases, see `SlicesFile`; those of others are found.
        allow_missing_keys: see MapTransform.

    Raises:
        ValueError: the file cannot be read.
        UnrefinableCase: it is not clear which slices were drawn, or there is nothing to fill in, see `Drawing.of`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        sparse: bool = False,
        slices_file: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.sparse = sparse
        self.named = SlicesFile.read(slices_file)
        self.told = self.named.text  # plain, so that a run with another file does its cases again

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill, and add what was drawn."""
        result = dict(data)
        for key in self.key_iterator(result) if self.sparse else ():
            label_map, affine = label_array(result[key])
            try:
                named = self.named.of(str(result.get(CASE, "")), affine, label_map.shape)
                drawn = Drawing.of(label_map, affine, self.refiner.pack, named)
            except ValueError as error:
                raise UnrefinableCase(f"{file_of(result[key])}: {error}") from None
            logger.info("%s: %s", file_of(result[key]), drawn)
            result[key] = like(result[key], drawn.fill(label_map, affine), affine)
            result[f"{key}{DRAWN}"] = drawn
        return result


FillDrawnD = FillDrawnDict = FillDrawnd
