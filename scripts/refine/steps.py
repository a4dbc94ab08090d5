"""What refines one shape of an organ pack: its prior, and the four steps set up with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..evidence.head import VoxelHead
from ..geometry.boxed import BoxedMask
from ..geometry.picct import PICCT
from ..organ.pack import OrganPack, Structure
from ..organ.side_names import paired_labels
from ..organ.sides import SIDES
from ..prior.prior import ShapePrior
from .bodies import Islands, far_islands
from .finetune import LatentFinetune
from .lengths import Lengths
from .reconstruct import ReconstructShape
from .seen import Readers, VoxelReader
from .settings import RefineSettings
from .tim import TIMSample

ALIGNMENT_POINTS = 500  # that PICCT's CPD matches


@dataclass(frozen=True)
class Steps:
    """What refines one shape: its settings, its prior, and the four steps set up with them."""

    settings: RefineSettings
    prior: ShapePrior
    picct: PICCT
    tim: TIMSample
    finetune: LatentFinetune
    reconstruction: ReconstructShape

    @classmethod
    def of(
        cls,
        structure: Structure,
        settings: RefineSettings,
        prior: ShapePrior,
        readers: Readers,
        side: str,
        device: str | torch.device,
    ) -> Steps:
        """Set up the steps of one shape."""
        anchor = prior.anchor_points.cpu().numpy()
        return cls(
            settings,
            prior,
            PICCT(anchor, prior.scale_mm, n_points=ALIGNMENT_POINTS, mirror=structure.mirror),
            TIMSample(settings.samples, settings.keep_share),
            LatentFinetune(settings, device),
            ReconstructShape(settings, readers, side),
        )

    def far_islands(self, mask: BoxedMask, affine: np.ndarray) -> Islands | None:
        """Return the far islands of the shape's mask, see `bodies.far_islands`."""
        return far_islands(mask, affine, Lengths.of(self.prior).long_mm, self.reconstruction.side)


def steps_of(
    pack: OrganPack,
    settings: Mapping[str, RefineSettings],
    priors: Mapping[str, ShapePrior],
    head: VoxelHead | None,
    blind: VoxelHead | None,
    device: str | torch.device,
) -> dict[str, Steps]:
    """Return the steps of each shape of a pack: of its structures, and of both sides of paired ones.

    Args:
        pack: the organ pack.
        settings: structure name → its settings.
        priors: structure name → its prior.
        head: the pack's voxel head that reads images, or None.
        blind: the one for masks alone, or None.
        device: where the fit runs.
    """
    side_of = {
        label: side for pair in paired_labels(pack.labels).items() for label, side in zip(pair, SIDES, strict=True)
    }
    return {
        shape.name: Steps.of(
            shape,
            settings[structure.name],
            priors[structure.name],
            Readers(*(None if own is None else VoxelReader(own, structure.name) for own in (head, blind))),
            side_of.get(structure.labels[0], "") if len(structure.labels) == 1 else "",
            device,
        )
        for structure in pack.structures
        for shape in (structure, *structure.pair)
    }
