"""Runs of `refine` on mutated inputs, each in a process of its own, and what goes wrong in them.

A run has one input, or several of one kind. Where one of several goes wrong they run again one by one, so that every
trouble has its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scripts.report.run_report import read_report, shown
from scripts.run.jobs import run_job

TROUBLES = ("traceback", "hang", "unreported", "no page", "memory")
START_SECONDS, CASE_SECONDS = 30.0, 20.0  # a run may take, and each of its cases
MEMORY_MB = 1000.0  # a run may take beyond what the fuzzer itself has
LONGEST_REFUSAL = 6000  # letters: a name of 5000 may be in it


@dataclass
class Job:
    """One run.

    Attributes:
        kind: of its inputs.
        numbers: of its inputs.
        folder: its own: `masks/` is read, `output/` written, `log.txt` is what it says.
        masks: the masks, each of which must be in the report.
        options: of the job `refine`.
        may_refuse: whether the whole run may be refused in one line.
        before: called in the run's process, before it starts.
    """

    kind: str
    numbers: list[int]
    folder: Path
    masks: list[Path]
    options: dict[str, Any]
    may_refuse: bool = False
    before: Callable[[], None] | None = None

    @property
    def output(self) -> Path:
        """The folder of the results."""
        return self.folder / "output"


@dataclass
class Found:
    """What came of a run.

    Attributes:
        inputs: how many it had.
        troubles: how often each of `TROUBLES` occurred.
        statuses: how many cases have each status; "refused" is a run that was refused in one line.
        peak_mb: memory beyond what the fuzzer itself has.
        seconds: it took.
        said: the last line of its log.
    """

    inputs: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    peak_mb: float = 0.0
    seconds: float = 0.0
    said: str = ""


def run(job: Job) -> Found:
    """Run a job in a process of its own and look at what it left."""
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        _refine(job)
    limit = START_SECONDS + CASE_SECONDS * len(job.numbers)
    found, status = Found(len(job.numbers)), None
    while status is None:
        ended, code, usage = os.wait4(child, os.WNOHANG)
        if ended:
            status = code
        elif time.perf_counter() - begun > limit:
            os.kill(child, signal.SIGKILL)
            found.troubles["hang"] += 1
            _, status, usage = os.wait4(child, 0)
        else:
            time.sleep(0.02)
    found.seconds = time.perf_counter() - begun
    found.peak_mb = max(usage.ru_maxrss / 1024 - own_mb(), 0.0)
    found.troubles["memory"] += found.peak_mb > MEMORY_MB
    _look(job, found, status)
    return found


def own_mb() -> float:
    """Return the memory of this process that a forked one begins with, in MB: without the pages of files."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _refine(job: Job) -> None:
    """Run the job as the command line does, in a forked process; never return."""
    code = 70
    try:
        log = os.open(job.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        torch.set_num_threads(1)
        if job.before is not None:
            job.before()
        try:
            places = {"dataset_dir": job.folder / "masks", "output_dir": job.output}
            run_job("refine", **{**places, "workers": 1, **job.options})
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
            if not isinstance(end.code, int):
                print(f"refused: {end.code}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _look(job: Job, found: Found, status: int) -> None:
    """Count the troubles of a run that ended with a status (see `os.wait4`)."""
    log = (job.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line for line in log.split("\n") if line.strip()]
    found.said = lines[-1][:300] if lines else ""
    crashed = os.WIFSIGNALED(status) and not found.troubles["hang"]
    found.troubles["traceback"] += "Traceback (most recent call last)" in log or crashed
    refusals = log.split("refused: ")[1:]
    if refusals:
        plain = (
            refusals[0].startswith("Error: ") and "\n" not in refusals[0].strip() and len(refusals[0]) < LONGEST_REFUSAL
        )
        found.troubles["traceback"] += not plain
        found.statuses["refused"] += len(job.numbers)
        found.troubles["unreported"] += 0 if job.may_refuse else len(job.masks)
        return
    try:
        cases = read_report(job.output)["cases"]
    except (OSError, ValueError):
        cases = []
    found.statuses.update(case["status"] for case in cases)
    text = json.dumps(cases, ensure_ascii=False)
    listed = {case["inputs"].get("pred") for case in cases}
    for mask in job.masks:
        name = shown(str(mask))
        found.troubles["unreported"] += name not in listed and json.dumps(name, ensure_ascii=False)[1:-1] not in text
    exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if cases and exit_code != int(any(case["status"] == "failed" for case in cases)):
        found.troubles["traceback"] += 1
        found.said = f"exit code {exit_code} does not fit the report; {found.said}"
    if str(job.options.get("html", True)).lower() not in ("false", "no", "off", "0", "none", ""):
        found.troubles["no page"] += bool(cases) and not (job.output / "report.html").is_file()


def any_trouble(found: Found) -> bool:
    """Whether anything went wrong."""
    return any(found.troubles.values())


def added(rows: Sequence[Found]) -> Found:
    """Return several runs' figures together: the highest peak, the sum of all else."""
    total = Found()
    for row in rows:
        total.inputs += row.inputs
        total.troubles += row.troubles
        total.statuses += row.statuses
        total.peak_mb = max(total.peak_mb, row.peak_mb)
        total.seconds += row.seconds
    return total
