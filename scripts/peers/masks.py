"""What both commands do: train a network on some cases of a data set, and write its masks of others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..cases.find import case_name
from ..organ.pack import OrganPack
from ..unet.network import check_unet
from ..unet.plan import pack_with_unet
from .data import BATCH, Batches, Case, Pair, read_once, task_of, write_mask
from .networks import PEERS
from .training import VALIDATED, Budget, load_finished, train


@dataclass(frozen=True)
class Setup:
    """What all trainings of a run share.

    Attributes:
        pack: the organ pack, with a U-Net.
        dataset_dir: folder of the data set.
        read: reads cases, see `read_once`.
        budget: of each training.
        seed: of weights and batches.
        device: where to train and segment.
    """

    pack: OrganPack
    dataset_dir: str
    read: Callable[[Sequence[Pair]], list[Case]]
    budget: Budget
    seed: int
    device: torch.device


def setup_of(organ: str, dataset_dir: str, minutes: float, steps: int, seed: int, device: str) -> Setup:
    """Return what the options of a command say.

    Raises:
        ValueError: there is no budget, or the data set cannot be used.
        OrganError: the pack describes no U-Net, and none can be planned.
    """
    budget = Budget(steps, 60.0 * minutes)
    pack = pack_with_unet(organ, dataset_dir)
    check_unet(pack)
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Setup(pack, dataset_dir, read_once(pack), budget, seed, on)


def train_and_segment(
    setup: Setup,
    name: str,
    folder: Path,
    training: Sequence[Pair],
    validation: Sequence[Pair],
    segmented: Sequence[Pair],
    masks: Path,
) -> dict[str, Any]:
    """Train a network where that is not done, and write its masks of other cases where they are not there.

    Args:
        setup: of the run.
        name: of the network.
        folder: receives its checkpoint and log; the name is part of the seed.
        training: image and label files of the cases that it learns from.
        validation: of those whose mean Dice is noted.
        segmented: of those to segment.
        masks: folder of the masks.

    Returns:
        The finished checkpoint.

    Raises:
        ValueError: the folder has a checkpoint of something else.
    """
    pack, budget, seed, device = setup.pack, setup.budget, setup.seed, setup.device
    torch.manual_seed(zlib.crc32(f"{seed}/{folder.name}".encode()))  # of the weights
    task = task_of(pack, setup.read(training))
    peer = PEERS[name](task)
    names = [case_name(pair["label"]) for pair in training]
    made_of = {"organ": pack.name, "cases": names, "block": list(task.block), "batch": BATCH, "seed": seed}
    made_of |= {"steps": budget.steps, "seconds": budget.seconds, "dataset_dir": str(Path(setup.dataset_dir).resolve())}
    made_of |= {"spacing_mm": list(task.spacing_mm), "network": json.dumps(task.network, sort_keys=True, default=str)}
    done = load_finished(peer, folder / "checkpoint.pt", made_of)
    if done is None:
        batches = Batches(pack, task, setup.read(training), seed, device)
        done = train(peer, batches, setup.read(validation[:VALIDATED]), folder, budget, made_of, device)
    peer.to(device)
    for pair in segmented:
        file = mask_file(masks, pair)
        if not is_newer(file, [folder / "checkpoint.pt"]):
            write_mask(peer, pack, pair["image"], file, device)
    return done


def mask_file(folder: Path, pair: Pair) -> Path:
    """Return where the mask of a case is written."""
    return folder / f"{case_name(pair['label'])}.nii.gz"


def is_newer(file: Path, others: Sequence[Path]) -> bool:
    """Whether a file is there and was written after the others."""
    return file.is_file() and all(file.stat().st_mtime >= other.stat().st_mtime for other in others)
