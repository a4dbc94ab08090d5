"""The one trainer of all networks: a budget, checkpoints that appear whole, and a run that goes on where it was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.networks import one_hot

from ..cases.files import whole_file, write_csv
from .data import Batches, Case, scores_of
from .peer import Peer
from .step import step

LEARNING_RATE = 1e-3  # at first; falls to 0 as a cosine over the budget
SAVED_EVERY_S = 60.0
LOGGED_EVERY = 10  # steps
VALIDATED = 8  # cases, the first ones

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """What the training of a network may take, whichever is used up first; 0 for no bound.

    Attributes:
        steps: batches.
        seconds: of processor time, so that it means the same on a busy machine; on a GPU of the clock.
    """

    steps: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.seconds < 0 or not (self.steps or self.seconds):
            raise ValueError("the budget of a network must be positive: give --minutes, --steps or both")

    def progress(self, step: int, seconds: float) -> float:
        """Return the share that is used up, at most 1."""
        parts = (step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0)
        return min(1.0, max(parts))


def load_finished(peer: Peer, file: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """Load a finished training's weights and return its checkpoint; None where there is none.

    Raises:
        ValueError: see `read_state`.
    """
    state = read_state(file, made_of)
    if state is None or not state["finished"]:
        return None
    peer.load_state_dict(state["peer"])
    return state


def read_state(file: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checkpoint of a training of the same things; None where there is none.

    Raises:
        ValueError: it cannot be read, or other options made it.
    """
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        other = sorted(key for key in made_of if state["made_of"].get(key) != made_of[key])
    except Exception as error:  # torch has many
        raise ValueError(f"{file} is no checkpoint of this comparison: remove it") from error
    if other:
        raise ValueError(f"{file} was made with another {', '.join(other)}: remove it, or give another output_dir")
    return state


def train(
    peer: Peer,
    batches: Batches,
    validation: Sequence[Case],
    folder: Path,
    budget: Budget,
    made_of: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Train a network, or go on with its training, and leave `checkpoint.pt` and `log.csv` in its folder.

    Args:
        peer: with random weights.
        batches: to learn from.
        validation: cases whose mean Dice is noted at the end; nothing depends on it.
        folder: of the network.
        budget: what it may take.
        made_of: what the result depends on; a checkpoint of something else is refused.
        device: where to train.

    Returns:
        The finished checkpoint.

    Raises:
        ValueError: the folder has a checkpoint of something else.
        FloatingPointError: the gradient is no longer finite.
    """
    file = folder / "checkpoint.pt"
    peer.to(device).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=LEARNING_RATE)
    state = read_state(file, made_of) or {"step": 0, "seconds": 0.0, "log": [], "finished": False}
    if state["step"]:
        peer.load_state_dict(state["peer"])
        optimizer.load_state_dict(state["optimizer"])
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started, saved, losses = clock() - state["seconds"], clock(), []
    while (progress := budget.progress(state["step"], state["seconds"])) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1.0 + math.cos(math.pi * progress))
        images, labels = batches.draw(state["step"])
        where = f"{folder.name}, batch {state['step']}"
        losses.append(step(peer, optimizer, images.to(device), labels.to(device), progress, where).item())
        state |= {"step": state["step"] + 1, "seconds": clock() - started}
        if state["step"] % LOGGED_EVERY == 0:
            mean = float(np.mean(losses))
            state["log"].append({"step": state["step"], "seconds": round(state["seconds"], 1), "loss": round(mean, 5)})
            losses = []
        if clock() - saved > SAVED_EVERY_S:
            _save(file, peer, optimizer, state, made_of)
            saved = clock()
    state |= {"finished": True, "validation_dice": validation_dice(peer, validation[:VALIDATED], device)}
    _save(file, peer, optimizer, state, made_of)
    return state


def _save(
    file: Path, peer: Peer, optimizer: torch.optim.Optimizer, state: dict[str, Any], made_of: dict[str, Any]
) -> None:
    parts = {"peer": peer.state_dict(), "optimizer": optimizer.state_dict(), "made_of": made_of}
    with whole_file(file) as temporary:
        torch.save(state | parts, temporary)
    write_csv(file.with_name("log.csv"), state["log"])
    last = state["log"][-1]["loss"] if state["log"] else math.nan
    logger.info("%s: step %d, %.0f s, loss %.3f", file.parent.name, state["step"], state["seconds"], last)


def validation_dice(peer: Peer, cases: Sequence[Case], device: torch.device) -> float:
    """Return the mean Dice, in %, of the classes in some cases."""
    found = []
    for case in cases:
        classes = scores_of(peer, case["image"], device).argmax(0, keepdim=True)
        made, true = (one_hot(labels[None], peer.task.classes) for labels in (classes, case["label"]))
        found.append(compute_dice(made, true, include_background=False).nanmean().item())
    return 100.0 * float(np.mean(found))
