"""What a training of a U-Net says at its beginning and at its end."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sized
from pathlib import Path

from monai.engines import SupervisedEvaluator

logger = logging.getLogger(__name__)


class TrainingWords:
    """Says how many cases there are, and at the end which weights were kept and where they are.

    Args:
        model_file: where the best weights go.
        organ: name or path of the organ pack, for the command to run next.
        network: name of another network than the pack's U-Net.
    """

    def __init__(self, model_file: str | Path, organ: str, network: str | None = "") -> None:
        self.model_file = Path(model_file)
        self.options = f"--organ {shlex.quote(str(organ))}" + (f" --network_name {network}" if network else "")
        self.begun = time.time()

    def begin(self, train: Sized, validation: Sized) -> None:
        """Say how many cases are learned from, and how many tell which weights are kept."""
        self.begun = time.time()
        logger.info("%d cases to learn from, %d to choose the weights by", len(train), len(validation))
        if len(validation) < 2:
            logger.warning("one case chooses the weights: that says little; label more cases")

    def end(self, evaluator: SupervisedEvaluator) -> None:
        """Say where the weights are and how good; warn where none were kept, or none are any good."""
        best, epoch = float(evaluator.state.best_metric), int(evaluator.state.best_metric_epoch)
        if not self.model_file.is_file() or self.model_file.stat().st_mtime < self.begun - 1.0:
            logger.warning("no weights were kept: no validation gave a Dice; see that the labels hold the organ")
            return
        logger.info("best validation Dice %.3f, after epoch %d: %s", best, epoch, self.model_file)
        logger.info(
            "next, segment images: python -m scripts segment --dataset_dir IMAGES/ %s --output_dir output/",
            self.options,
        )
        if best < 0.05:
            logger.warning("the network finds next to nothing: train longer, or see that images and labels match")
