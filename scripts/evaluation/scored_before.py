"""Which cases an earlier evaluation has scored, from the same files in the same way, so that they need not be again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.digest import hash_of, input_hash
from ..cases.files import write_text
from ..run.done_before import code_hash
from .pairing import ScoredCase
from .scoring import Scoring

SCORES = "scores.jsonl"
Rows = list[dict[str, Any]]


class ScoredBefore:
    """The scores of single cases in an evaluation's folder, each written as soon as it is known.

    A line holds a hash of all that its rows depend on (the case's files and names, how it is scored, the bundle's code
    and packages) and the rows.

    Args:
        folder: of the evaluation.
        scoring: how cases are scored.
        overwrite: whether what an earlier evaluation has scored counts for nothing.
    """

    def __init__(self, folder: Path, scoring: Scoring, overwrite: bool = False) -> None:
        self.file = folder / SCORES
        self.how = hash_of([repr(scoring), code_hash()], [])
        self.known = {} if overwrite else _read(self.file)
        if overwrite:
            self.file.unlink(missing_ok=True)

    def of(self, case: ScoredCase) -> Rows | None:
        """Return the rows of a case; None where they are not known."""
        return self.known.get(self._hash(case))

    def add(self, case: ScoredCase, rows: Rows) -> None:
        """Note the rows of a case."""
        line = _line(self._hash(case), rows)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(line)

    def keep(self, scored: Sequence[tuple[ScoredCase, Rows]]) -> None:
        """Leave these alone in the file."""
        write_text(self.file, "".join(_line(self._hash(case), rows) for case, rows in scored))

    def forget(self) -> None:
        """Take back what this evaluation, which is refused, has added; and its folder where nothing else is in it."""
        if self.known:
            write_text(self.file, "".join(_line(key, rows) for key, rows in self.known.items()))
            return
        self.file.unlink(missing_ok=True)
        with suppress(OSError):
            self.file.parent.rmdir()

    def _hash(self, case: ScoredCase) -> str:
        files = {"label": str(case.label)} | {f"mask {name}": str(own) for name, own in case.predictions.items() if own}
        found = input_hash(files)
        methods = ",".join(case.predictions)
        return hash_of([self.how, found, case.case, case.patient, methods], []) if found else ""


def _line(key: str, rows: Rows) -> str:
    return json.dumps({"hash": key, "rows": rows}, default=_plain) + "\n" if key else ""


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _read(file: Path) -> dict[str, Rows]:
    """Return hash → rows of a file of scores; what a killed evaluation has not written to its end is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for line in lines:
        try:
            one = json.loads(line)
            found[one["hash"]] = one["rows"]
        except (ValueError, KeyError, TypeError):
            continue
    return found
