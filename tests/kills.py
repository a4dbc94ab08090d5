"""Kill runs at random moments and see what they leave: `python -m tests.kills refine --count 50 --seed 0`.

`refine` runs the refine job with a fake chain on twelve masks, `train_prior` a tiny training on ellipsoids. Each run is
killed with signal 9 and then started again. What counts as wrong: a file under a final name that is not whole, and
results of the second run that are not those of a run that nobody killed, byte for byte. The exit code is 1 if anything
was wrong.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from scripts.report.run_report import read_report
from tests.helpers.ellipsoid_files import write_organ
from tests.helpers.fake_run import run_refine
from tests.helpers.tiny_run import run as run_training
from tests.helpers.volumes import AFFINES, blocks, save

BUNDLE = Path(__file__).resolve().parents[1]
CASES = 12
REPORTS = ("report.json", "report.jsonl")
LEFTOVER = "left behind: "


def in_child(act: Callable[[], object], kill_after_seconds: float | None = None) -> int:
    """Run something in a process of its own, killed after so many seconds; return how it ended, 0 if well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(quiet, stream)
            torch.set_num_threads(1)
            act()
            code = 0
        finally:
            os._exit(code)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def results(folder: Path) -> dict[str, bytes]:
    """Return name → bytes of what a run wrote under a final name, without its report."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.name not in REPORTS}


class Refine:
    """The refine job on twelve made-up masks."""

    def __init__(self, folder: Path) -> None:
        self.masks = folder / "masks"
        for number in range(CASES):
            affine = list(AFFINES.values())[number % len(AFFINES)]
            save(self.masks / f"case_{number:02d}.nii.gz", blocks(), affine)

    def run(self, output: Path) -> None:
        """Do the job."""
        run_refine(self.masks, output)

    def partial(self, output: Path, expected: dict[str, bytes]) -> list[str]:
        """Return what a killed run left under a final name that is not whole, or not reported."""
        found = results(output)
        wrong = [name for name, content in found.items() if expected.get(name) != content]
        if (output / REPORTS[0]).is_file():
            told = {case["case"] for case in read_report(output)["cases"]}
            begun = [n for n in range(CASES) if f"case_{n:02d}/case_{n:02d}_initial.nii.gz" in found]
            wrong += [f"case_{n:02d} is not reported" for n in begun[:-1] if f"case_{n:02d}" not in told]
        return wrong

    def whole(self, output: Path) -> dict[str, bytes]:
        """Return what a run that ended must have written."""
        leftovers = {f"{LEFTOVER}{file.name}": b"" for file in output.rglob(".*")}
        return results(output) | leftovers


class TrainPrior:
    """A tiny training of a prior; each output has samples of its own."""

    def __init__(self, folder: Path) -> None:
        self.organ, self.data = write_organ(folder)

    def run(self, output: Path) -> None:
        """Do the job."""
        cache = output / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        run_training(BUNDLE, output, self.organ, self.data, cache_dir=str(cache))

    def partial(self, output: Path, expected: dict[str, bytes]) -> list[str]:
        """Return what a killed run left under a final name that is not whole."""
        wrong = []
        for file in output.rglob("*"):
            if file.name[0] == "." or not file.is_file():
                continue
            try:
                if file.suffix == ".safetensors":
                    with safe_open(file, "np") as tensors:
                        tensors.keys()
                elif file.suffix == ".pt":
                    torch.load(file, weights_only=True)
            except Exception as error:  # whatever a broken file gives
                wrong.append(f"{file.relative_to(output)}: {error}")
        return wrong

    def whole(self, output: Path) -> dict[str, bytes]:
        """Return the prior."""
        return {"prior.safetensors": (output / "prior.safetensors").read_bytes()}


JOBS: dict[str, Callable[[Path], Refine | TrainPrior]] = {"refine": Refine, "train_prior": TrainPrior}


def kill(name: str, count: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Kill so many runs of a job; return how many were cut short, and what was wrong."""
    job = JOBS[name](folder / "inputs")
    began = time.perf_counter()
    if in_child(lambda: job.run(folder / "whole")) != 0:
        return 0, ["the run that nobody kills does not end well"]
    seconds = time.perf_counter() - began
    expected = job.whole(folder / "whole")
    draw = random.Random(seed)
    cut_short, wrong = 0, []
    for number in range(count):
        output = folder / f"out_{number}"
        cut_short += in_child(lambda: job.run(output), draw.uniform(0.05, 0.7) * seconds) != 0  # noqa: B023
        wrong += [f"kill {number}: {what}" for what in job.partial(output, expected)]
        ended = in_child(lambda: job.run(output))  # noqa: B023
        if ended != 0 or job.whole(output) != expected:
            wrong.append(f"kill {number}: the run that was started again has other results (exit {ended})")
    return cut_short, wrong


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("job", choices=list(JOBS))
    parser.add_argument("--count", type=int, default=50, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same moments, as shares of a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        cut_short, wrong = kill(options.job, options.count, options.seed, Path(folder))
    print(f"{options.job}: {options.count} runs killed, {cut_short} of them before their end; {len(wrong)} wrong")
    print("\n".join(wrong), end="\n" if wrong else "")
    return int(bool(wrong) or not cut_short)


if __name__ == "__main__":
    sys.exit(main())
