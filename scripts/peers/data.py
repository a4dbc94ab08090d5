"""The images of the comparison: read once, padded, changed at random, and masks back on the images' own grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Compose,
    Invertd,
    Orientationd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ResampleToMatchd,
)

from ..cases.write import write_label_map
from ..organ.pack import OrganPack
from ..unet.images import OwnSpacingd, ReadImaged, network_intensity, unit_intensity
from .peer import Peer, Task, step_of

LARGEST_BLOCK = 96  # voxels an axis
BATCH = 1  # image: with little time, more steps bring more than larger ones
OVERLAP = 0.25  # of neighbouring blocks in an image that is larger than one

Pair = Mapping[str, str]
"""The files `image` and `label` of a case."""
Case = Mapping[str, torch.Tensor]
"""`image` and `label`, each (1, X, Y, Z)."""


def classes_of(pack: OrganPack) -> list[tuple[int, ...]]:
    """Return the labels of each class from 1 on: one a structure, the two sides of a pair together."""
    return list(dict.fromkeys(tuple(structure.labels) for structure in pack.structures))


def reading(pack: OrganPack, keys: Sequence[str]) -> Compose:
    """Return what reads images as the pack's U-Net sees them, and label maps on their grids."""
    labels = [key for key in keys if key != "image"]
    return Compose(
        [
            ReadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            OwnSpacingd("image", pixdim=pack.spacing_mm, mode="bilinear"),
            *[ResampleToMatchd(key, key_dst="image", mode="nearest", padding_mode="zeros") for key in labels],
            unit_intensity("image", pack.intensity),
            network_intensity("image", pack.intensity),
        ]
    )


def read_cases(pack: OrganPack, pairs: Sequence[Pair]) -> list[Case]:
    """Read images and label maps, the latter with class numbers in place of labels."""
    read = reading(pack, ("image", "label"))
    cases: list[Case] = []
    for pair in pairs:
        found = read(dict(pair))
        image, label = (found[key].as_tensor() for key in ("image", "label"))
        numbers = torch.zeros_like(label, dtype=torch.int16)  # a device may hold many
        for number, labels in enumerate(classes_of(pack), 1):
            numbers[torch.isin(label.round().long(), torch.tensor(labels))] = number
        cases.append({"image": image.float(), "label": numbers})
    return cases


def read_once(pack: OrganPack) -> Callable[[Sequence[Pair]], list[Case]]:
    """Return what reads cases as `read_cases` does, each when it is first asked for."""
    known: dict[str, Case] = {}

    def read(pairs: Sequence[Pair]) -> list[Case]:
        for pair in pairs:
            if pair["label"] not in known:
                (known[pair["label"]],) = read_cases(pack, [pair])
        return [known[pair["label"]] for pair in pairs]

    return read


def task_of(pack: OrganPack, cases: Sequence[Case]) -> Task:
    """Return the task of some cases: the block has their median size, rounded up."""
    median = np.median([case["image"].shape[1:] for case in cases], axis=0)
    step = step_of(pack.network)
    x, y, z = (min(LARGEST_BLOCK, step * math.ceil(n / step)) for n in median)
    return Task(len(classes_of(pack)) + 1, (x, y, z), pack.spacing_mm, pack.network)


class Batches:
    """Random batches of a task's blocks; the same for a step whatever came before it, so that a run can go on.

    Mirroring, rotation, scale and shift are those of the pack's `augment`; intensities change a little.

    Args:
        pack: the organ pack.
        task: gives the block.
        cases: to draw from.
        seed: of everything random.
        device: holds the cases, changes them, and has the batches.
    """

    def __init__(
        self, pack: OrganPack, task: Task, cases: Sequence[Case], seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.cases = [{key: values.to(device) for key, values in case.items()} for case in cases]
        self.seed = seed
        augment, keys = pack.augment, ("image", "label")
        self.change = Compose(
            [
                RandFlipd(keys, prob=0.5 if augment.flip else 0.0, spatial_axis=0),
                RandAffined(
                    keys,
                    prob=1.0,
                    spatial_size=task.block,
                    rotate_range=[math.radians(augment.rotate_deg)] * 3,
                    scale_range=[augment.scale] * 3,
                    translate_range=[augment.translate_mm / step for step in pack.spacing_mm],
                    mode=("bilinear", "nearest"),
                    padding_mode="zeros",
                    device=torch.device(device),
                ),
                RandScaleIntensityd("image", factors=0.2, prob=0.5),
                RandShiftIntensityd("image", offsets=0.2, prob=0.5),
            ]
        )

    def draw(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, 1, X, Y, Z) and class numbers of the same shape; torch's own random numbers begin anew."""
        rng = np.random.default_rng((self.seed, step))
        self.change.set_random_state(seed=int(rng.integers(2**31)))
        torch.manual_seed(int(rng.integers(2**31)))
        chosen = rng.choice(len(self.cases), size=BATCH, replace=len(self.cases) < BATCH)
        drawn = [self.change(dict(self.cases[number])) for number in chosen]
        images, labels = (torch.stack([torch.as_tensor(one[key]) for one in drawn]) for key in ("image", "label"))
        return images.float(), labels.long()


@torch.no_grad()
def scores_of(peer: Peer, image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the scores (C, X, Y, Z) of an image (1, X, Y, Z) of any size."""
    windows = SlidingWindowInferer(peer.task.block, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    scores = windows(image[None].to(device), peer.eval().predict)
    assert isinstance(scores, torch.Tensor)  # the networks give one output
    return scores[0].cpu()


def write_mask(peer: Peer, pack: OrganPack, image_file: str, target: Path, device: torch.device) -> None:
    """Segment an image file and write the label map on its grid; a class gets the first of its labels."""
    read = reading(pack, ("image",))
    found: dict[Any, Any] = dict(read({"image": image_file}))
    found["pred"] = MetaTensor(scores_of(peer, found["image"].as_tensor(), device))
    found = dict(Invertd("pred", transform=read, orig_keys="image", nearest_interp=False)(found))
    values = np.array([0, *(labels[0] for labels in classes_of(pack))])
    values = values.astype(np.min_scalar_type(values.max()))
    write_label_map(target, values[found["pred"].argmax(0).cpu().numpy()], image_file, dtype=values.dtype.name)
