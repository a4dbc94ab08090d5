"""One step of a network's training by its own loss: in the comparison, and in the trainer of `configs/train.yaml`."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

LARGEST_GRADIENT = 1.0  # norm


def step(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    progress: float,
    where: str,
) -> torch.Tensor:
    """Take a step and return the loss; in full precision, since not every network's loss stands less.

    Args:
        network: a `Peer`, or what wraps one.
        optimizer: of its weights.
        images: (B, 1, X, Y, Z).
        labels: (B, 1, X, Y, Z), class numbers.
        progress: share of the training that is done, 0 to 1.
        where: in the training, for the error.

    Raises:
        FloatingPointError: the gradient is no longer finite.
    """
    loss: torch.Tensor = network(images, labels, progress)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"{where}: the gradient is not finite: try a lower learning rate")
    optimizer.step()
    return loss.detach()


def trainer_step(engine: SupervisedTrainer, batch: dict[str, torch.Tensor]) -> Any:
    """Take the step of a `Peer` in MONAI's trainer: its `iteration_update`, in place of inferer and loss function.

    Returns:
        Image, label and loss of each case; no prediction, which some networks take long for.
    """
    state = engine.state
    images, labels = engine.prepare_batch(batch, state.device, engine.non_blocking)
    engine.network.train()
    progress = (state.iteration - 1) / (state.max_epochs * state.epoch_length)
    loss = step(engine.network, engine.optimizer, images, labels, progress, f"epoch {state.epoch}")
    state.output = {CommonKeys.IMAGE: images, CommonKeys.LABEL: labels, CommonKeys.LOSS: loss}
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return state.output
