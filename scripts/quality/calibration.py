"""Intervals from a user's own cases, kept beside an organ pack's priors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..cases.digest import hash_of
from ..cases.files import write_json
from .predictor import PROMISE, TARGETS


@dataclass(frozen=True)
class Calibration:
    """How wide the intervals of an organ's predictions are.

    Attributes:
        widths: target → half of the interval's width, in predicted spreads.
        patients: how many independent cases stand behind it.
        masks: how many masks.
        made_of: whose masks these were, in words.
        promise: the share of new patients' masks that the interval holds.
        predictor: hash of the predictor's file in whose spreads the widths are; "" where it is not known.
        readers: hash of the files of what read the images; "" without images, or where it is not known.
    """

    widths: Mapping[str, float]
    patients: int
    masks: int
    made_of: str
    promise: float = PROMISE
    predictor: str = ""
    readers: str = ""

    def fits(self, predictor_file: Path, reader_files: Sequence[Path]) -> bool:
        """Return whether the widths are in the spreads of a predictor, told by such readers, as far as is known."""
        known = self.predictor in ("", hash_of((), [predictor_file]))
        return known and self.readers in ("", hash_of((), reader_files))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {**asdict(self), "widths": dict(self.widths)})

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is none; the message names it and what to do.
        """
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            widths = [float(found.widths[target]) for target in TARGETS]
            if not all(math.isfinite(one) and one > 0 for one in widths):
                raise ValueError("a width is no number above 0")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is broken ({error}): remove it, and run `python -m scripts calibrate`") from error
        return found
