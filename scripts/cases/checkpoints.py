"""Checkpoints that appear whole or not at all, even where the process is killed while it writes one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from ignite.handlers import Checkpoint, DiskSaver
from monai.handlers import CheckpointLoader, CheckpointSaver

from .files import whole_file

UNFIT = (RuntimeError, ValueError)  # of a checkpoint of another run, in words that help
NO_CHECKPOINT = (*UNFIT, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


class ResumeLoader(CheckpointLoader):
    """MONAI's `CheckpointLoader` for a run that goes on; it says which file does not fit."""

    def __call__(self, engine: Engine) -> None:
        """Put the run where it stood.

        Raises:
            ValueError: the file is no checkpoint of such a run, or that run has had more epochs than are wanted.
        """
        wanted = engine.state.max_epochs
        try:
            super().__call__(engine)
        except NO_CHECKPOINT as error:
            done = engine.state.epoch
            if wanted is not None and done > wanted:
                said = f"has had {done} epochs: give a larger --max_epochs"
            else:
                lines = str(error).splitlines()[:2] if isinstance(error, UNFIT) else []
                reason = f" ({' '.join(line.strip() for line in lines)})" if lines else ""
                said = f"is no checkpoint of a run with this organ and these options{reason}: give that run's own"
            raise ValueError(f"--resume {self.load_path} {said}, or leave out --resume") from error


class WholeCheckpointSaver(CheckpointSaver):
    """MONAI's `CheckpointSaver`, whose files appear whole or not at all.

    Args:
        arguments, options: as of MONAI's.
        half: writes one network's weights (floating point) in half precision, for use: half as large.
    """

    def __init__(self, *arguments: Any, half: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for checkpoint in (self._final_checkpoint, self._key_metric_checkpoint, self._interval_checkpoint):
            if isinstance(checkpoint, Checkpoint):
                checkpoint.save_handler = _WholeFiles(checkpoint.save_handler, half)


class _WholeFiles(DiskSaver):
    """Writes checkpoints by `whole_file` to where another saver would write them."""

    def __init__(self, saver: Any, half: bool) -> None:
        super().__init__(saver.dirname, require_empty=False)
        self.filename: str | None = saver.filename
        self.half = half

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        with whole_file(Path(self.dirname) / (self.filename or filename)) as temporary:
            torch.save(halved(checkpoint) if self.half else checkpoint, temporary)

    def remove(self, filename: str) -> None:
        (Path(self.dirname) / (self.filename or filename)).unlink(missing_ok=True)


def halved(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's weights, the floating-point ones in half precision where that can hold them, for any machine.

    A layer of two names is kept once.
    """
    known: dict[tuple[int, torch.Size], torch.Tensor] = {}
    return {
        name: known.setdefault((value.data_ptr(), value.shape), _smaller(value).cpu())
        for name, value in weights.items()
    }


def _smaller(value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point() or (value.abs() > torch.finfo(torch.float16).max).any():
        return value
    return value.half()
