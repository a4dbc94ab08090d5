"""What a run, or a host's request, asks for: checked before anything is built of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.io import CaseError
from ..cases.sources import LabelSource
from ..organ.pack import OrganError, OrganPack, known_organs
from ..refine.chain import Refiner
from ..unet.network import check_unet, network_file
from .options import is_true


class BadRequest(CaseError):
    """The request asks for something that is not there."""


@dataclass(frozen=True)
class Request:
    """What is asked for, and all that was read to answer it.

    Attributes:
        problem: why it cannot be met, as a message that says what to do; "" if it can.
        pack: the organ's pack; the default organ's where there is a problem. A host builds all transforms before it
            runs the first, which is the one that can answer it: `CheckRequestd`.
        labels: how the masks' labels are read.
        refiner: of the organ; None where no refinement is asked for, or there is a problem.
        has_mask: whether a mask is given, so that no U-Net is needed.
    """

    problem: str
    pack: OrganPack
    labels: LabelSource
    refiner: Refiner | None = None
    has_mask: bool = False

    @classmethod
    def of(
        cls,
        organ: str | Path,
        preset: str = "default",
        refine: object = True,
        current_label: object = True,
        source: str = "",
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> Request:
        """Read the organ pack and, where masks are to be refined, presets, priors and networks.

        Args:
            organ: name of an organ pack, or its path.
            preset: of the refinement.
            refine: whether masks are refined, which takes the preset and the pack's priors.
            current_label: whether a mask is given; if not, the organ's U-Net must be there. That of the default organ
                need not be: who runs the bundle has it, perhaps as TorchScript alone.
            source: whose labels the masks have, see `sources`.
            device: where priors, fields and the evidence networks are evaluated.
            seed: of the refinement.
        """
        try:
            pack = OrganPack.load(organ)
            labels = LabelSource.of(pack, source)
            has_mask = is_true(current_label)
            refiner = Refiner(pack, preset, device, seed) if is_true(refine) else None
            if not has_mask:
                check_unet(pack)
            if not has_mask and not pack.default and not Path(network_file(pack)).is_file():
                raise OrganError(
                    f"organ '{pack.name}' has no U-Net, {network_file(pack)} is missing: train it with "
                    "configs/train.yaml, or refine masks that are there"
                )
        except (ValueError, FileNotFoundError) as error:
            pack = OrganPack.load(known_organs()[0])
            return cls(str(error), pack, LabelSource(pack))
        return cls("", pack, labels, refiner, has_mask)

    def require(self) -> Request:
        """Return the request, if it can be met.

        Raises:
            SystemExit: it cannot; with the message.
        """
        if self.problem:
            raise SystemExit(f"Error: {self.problem}")
        return self


class CheckRequestd(MapTransform):
    """Refuses a request that cannot be met; changes nothing.

    Args:
        keys: ignored.
        problem: why it cannot be met (`Request.problem`); "" if it can.

    Raises:
        BadRequest: there is a problem.
    """

    def __init__(self, keys: KeysCollection = "image", problem: str = "") -> None:
        super().__init__(keys)
        self.problem = problem

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged."""
        if self.problem:
            raise BadRequest(self.problem)
        return dict(data)


CheckRequestD = CheckRequestDict = CheckRequestd
