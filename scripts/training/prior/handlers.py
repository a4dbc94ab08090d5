"""Handlers of a prior's training: its draws, its log, and the validation on unseen shapes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch.utils.tensorboard import SummaryWriter

from ...prior.linear import LinearShapeModel
from ...prior.prior import bare_prior
from ...shapes.samples import ShapeSamples
from .check import held_out_scores, summary
from .losses import DeformTemplateLoss
from .network import PriorTrainingNetwork
from .points import ShapePointsDataset

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Handler that knows where a run stands: it restarts the data set's draws each epoch and is saved in checkpoints.

    A resumed run thus goes on at its epoch and draws as an unbroken one does. It stands in for the trainer in a
    checkpoint, because a config cannot let the trainer's own handlers refer to the trainer.
    """

    def __init__(self, dataset: ShapePointsDataset) -> None:
        self.dataset = dataset
        self.engine: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        self.engine = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the epoch that begins."""
        self.dataset.set_epoch(engine.state.epoch)

    def state_dict(self) -> Mapping[str, Any]:
        """The trainer's state."""
        return {} if self.engine is None else self.engine.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the trainer where it stood."""
        if self.engine is not None:
            self.engine.load_state_dict(state)


class RunLog:
    """Curves of a run: kept for the report and the checkpoints, and written to TensorBoard.

    Args:
        log_dir: TensorBoard's folder; None keeps the curves in memory only.

    Attributes:
        curves: name → list of (step, value).
    """

    def __init__(self, log_dir: str | Path | None = None) -> None:
        self.log_dir = log_dir
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.writer: SummaryWriter | None = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note values of a step."""
        if self.writer is None and self.log_dir is not None:
            self.writer = SummaryWriter(str(self.log_dir))
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, float(value)))
            if self.writer is not None:
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def state_dict(self) -> dict[str, Any]:
        """The curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from curves of an interrupted run."""
        self.curves = {name: [(int(s), float(v)) for s, v in curve] for name, curve in state["curves"].items()}


class LossCurves:
    """Handler that notes the loss and its weighted terms, their means over each epoch.

    Args:
        loss: the loss function of the run.
        log: where they go.
    """

    def __init__(self, loss: DeformTemplateLoss, log: RunLog) -> None:
        self.loss = loss
        self.log = log
        self.steps: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda: self.log.close())

    def collect(self, engine: Engine) -> None:
        """Remember a step's terms."""
        output: Any = engine.state.output
        self.steps.append({"total": output["loss"].item(), **self.loss.last})

    def __call__(self, engine: Engine) -> None:
        """Note the epoch's means."""
        names = self.steps[0]
        means = {f"loss/{name}": float(np.mean([step[name] for step in self.steps])) for name in names}
        self.log.add(engine.state.iteration, means)
        self.steps = []


class HeldOutValidation:
    """Handler that fits unseen shapes with the network as it stands, codes only, and notes DSC and CD ×1000.

    Args:
        network: the network that is trained.
        linear: linear model of the training shapes.
        grids: (S, G, G, G) their signed distance grids.
        shapes: unseen shapes; with none the handler does nothing.
        log: where the figures go.
        interval: epochs between validations.
        steps: steps of each fit.
        limit: shapes fitted.
        keep_best: put the weights with the lowest CD back when training ends.
    """

    def __init__(
        self,
        network: PriorTrainingNetwork,
        linear: LinearShapeModel,
        grids: np.ndarray,
        shapes: Sequence[ShapeSamples],
        log: RunLog,
        interval: int = 6,
        steps: int = 60,
        limit: int = 4,
        keep_best: bool = False,
    ) -> None:
        self.network = network
        self.linear = linear
        self.scores = linear.scores(grids)
        self.shapes = shapes
        self.log = log
        self.interval = interval
        self.steps = steps
        self.limit = limit
        self.keep_best = keep_best
        self.best: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if not self.shapes or self.interval < 1:
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def __call__(self, engine: Engine) -> None:
        """Validate."""
        step = engine.state.iteration
        prior = bare_prior(self.network.field, self.network.alpha, self.network.beta, self.linear, self.scores)
        figures = summary(held_out_scores(prior, self.shapes, self.steps, self.limit))
        cd = float("inf") if figures["cd_mean"] is None else float(figures["cd_mean"])
        self.log.add(step, {"held_out/dsc": float(figures["dice_mean"] or 0.0), "held_out/cd": cd})
        logger.info("step %d: held-out shapes: DSC %.4f, CD x1000 %.3f", step, figures["dice_mean"], cd)
        if self.keep_best and cd < self.best.get("cd", float("inf")):
            self.best = {"cd": cd, "step": step, "network": copy.deepcopy(self.network.state_dict())}

    def finish(self, engine: Engine) -> None:
        """Validate the end, where that was not done, and go back to the best weights if so asked."""
        if engine.state.epoch % self.interval:
            self(engine)
        if self.best:
            logger.info("weights of step %d kept: CD x1000 %.3f", self.best["step"], self.best["cd"])
            self.network.load_state_dict(self.best["network"])

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the best weights of an interrupted run."""
        self.best = dict(state["best"])


class LossProgressBar(ProgressBar):
    """ignite's tqdm bar over all steps of the run, with the loss."""

    def __init__(self) -> None:
        super().__init__(persist=True, desc="training", disable=None)

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Attach as a MONAI handler is attached: with the engine alone."""
        super().attach(
            engine,
            output_transform=lambda output: {"loss": output["loss"].item()},
            event_name=Events.ITERATION_COMPLETED(every=10),
            closing_event_name=Events.COMPLETED,
        )
