"""What a run that refines masks asks for: one organ pack, or several at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from ..cases.fitting import packs_for
from ..cases.sources import LabelSource
from ..organ.pack import MODELS, OrganPack, known_organs
from ..organ.several import union
from ..refine.chain import Refiner
from ..refine.missing import CANNOT_DRAW, can_draw
from ..refine.several import JoinedRefiner
from .options import is_true
from .request import BadRequest, Request, host_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskRequest:
    """What is asked for, and all that was read to answer it.

    Attributes:
        problem: why it cannot be met, as a message that says what to do; "" if it can.
        pack: the organ's pack, or that of several, see `union`; the default organ's where there is a problem.
        labels: how the masks' labels are read.
        refiner: of the packs; None where there is a problem.
    """

    problem: str
    pack: OrganPack
    labels: LabelSource
    refiner: Refiner | JoinedRefiner | None = None

    @classmethod
    def of(
        cls,
        organ: object,
        preset: str = "default",
        source: str = "",
        device: str | torch.device = "cpu",
        seed: int = 0,
        inward_mm: object = "",
        dataset_dir: str | Path = "",
        prob_dir: str | Path | None = None,
        second_reader: object = True,
        add_missing: object = False,
    ) -> MaskRequest:
        """Read what refining masks takes; of several packs, say which refines what.

        Args:
            organ: names of organ packs, or their paths, see `packs_for`.
            preset: of the refinement.
            source: whose labels the masks have, see `sources`.
            device: where priors, fields, voxel heads and U-Nets are evaluated.
            seed: of the refinement.
            inward_mm: by how much masks are taken inward first, see `inward.read_inward`.
            dataset_dir: where the masks are.
            prob_dir: where class probabilities are, which one pack alone can read.
            second_reader: whether the packs' U-Nets read images, too, since they have not made the masks.
            add_missing: whether they draw what masks lack.
        """
        try:
            packs = packs_for(organ, str(dataset_dir), str(source or ""))
            if is_true(add_missing) and not any(map(can_draw, packs)):
                raise BadRequest(CANNOT_DRAW.format(", ".join(pack.name for pack in packs)))
            if len(packs) == 1:
                one = Request.of(
                    packs[0],
                    preset,
                    source=source,
                    device=device,
                    seed=seed,
                    inward_mm=inward_mm,
                    second_reader=second_reader,
                )
                return cls(one.problem, one.pack, one.labels, one.refiner)
            if prob_dir:
                raise BadRequest("class probabilities have the channels of one organ pack: leave out --prob_dir")
            pack = union(packs)
            labels = LabelSource.of(pack, str(source or ""))
            refiner = JoinedRefiner(pack, preset, host_device(device), seed, inward_mm, is_true(second_reader))
        except (ValueError, OSError, BadRequest) as error:
            default = OrganPack.load(known_organs()[0])
            return cls(str(error), default, LabelSource(default))
        for member in pack.members:
            logger.info(member.line)
        return cls("", pack, labels, refiner)

    @property
    def organ(self) -> str:
        """The organ packs, as they can be asked for again: names of those in `models/`, else paths."""
        folders = [pack.folder for pack in self.pack.packs]
        return ",".join(folder.name if folder.parent == MODELS else str(folder) for folder in folders)

    def require(self) -> MaskRequest:
        """Return the request, if it can be met.

        Raises:
            SystemExit: it cannot; with the message.
        """
        if self.problem:
            raise SystemExit(f"Error: {self.problem}")
        return self
