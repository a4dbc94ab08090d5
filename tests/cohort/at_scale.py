"""A cohort on two workers in which things go wrong: `python -m tests.cohort.at_scale --label_dir DIR --cases 1500`.

Masks are simulated from label maps (as `simulate` does); one more is too large for a worker's memory, one is corrupt.
Those of them that `--compared` says, evenly spaced, are refined one after another (`refine --workers 1`), without the
large one. All are refined by `cohort` on two workers, of which one is killed on the way; then by `cohort` again, after
one result was removed. What counts as wrong: a healthy case that is not done, a result that is not that of one after
another, byte for byte, and a case that is done twice without need. At the end comes a table of what was measured. The
exit code is 1 if anything was wrong. It runs on Linux.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

from scripts.cases.find import case_name
from scripts.cases.split import evenly_spaced
from scripts.simulation.simulate import simulate
from tests.kills import results

BUNDLE = Path(__file__).resolve().parents[2]
KINDS = ("missing", "islands", "steps", "rough", "mixed")
GLUTTON, CORRUPT = "glutton", "corrupt"
LARGE = (1200, 1200, 1000)  # voxels of two bytes
MEMORY = "2GB"  # of a worker
PAUSE = 0.05  # seconds after a case's line, in which the next begins by giving back memory
EARLY = 10  # cases of a worker, after which its memory is compared with that at its end


def make_masks(label_dir: str, organ: str, cases: int, compared: int, folder: Path) -> None:
    """Write so many simulated masks, the large one and the corrupt one into `all`, those to compare into `some`."""
    (folder / "all").mkdir()
    (folder / "some").mkdir()
    left = cases
    for seed in count():
        simulated = folder / "simulated" / str(seed)
        simulate(label_dir, organ, str(simulated), KINDS, seed=seed)
        for name, kind in product(sorted(file.name for file in (simulated / KINDS[0]).iterdir()), KINDS):
            if left:
                os.link(
                    simulated / kind / name,
                    folder / "all" / f"{case_name(simulated / kind / name)}_{seed}_{kind}.nii.gz",
                )
                left -= 1
        if not left:
            break
    masks = sorted((folder / "all").iterdir())
    for index in evenly_spaced(cases, compared):
        os.link(masks[index], folder / "some" / masks[index].name)
    large = nib.Nifti1Image(np.broadcast_to(np.int16(0), LARGE), np.eye(4))
    nib.save(large, folder / "all" / f"{GLUTTON}.nii.gz")
    for place in ("some", "all"):
        (folder / place / f"{CORRUPT}.nii.gz").write_bytes(b"broken")


@dataclass
class Run:
    """A command at work.

    Attributes:
        command: `refine` or `cohort`.
        workers: how many processes do cases.
        done: names of the cases that it did, in the order of their lines.
        seconds: from its start to its end.
        memory_mb: process → its resident memory and the highest so far, MB, at each line while it ran.
    """

    command: str
    workers: int
    done: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory_mb: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def __call__(self, masks: Path, output: Path, options: list[str], kill_at: int = 0) -> "Run":
        """Run it; a worker is killed, once, when `kill_at` cases are done, 0 for none."""
        line = [sys.executable, "-m", "scripts", self.command, "--dataset_dir", str(masks), "--output_dir", str(output)]
        line += [*options, "--workers", str(self.workers), "--html", "false"]
        began = time.perf_counter()
        process = subprocess.Popen(
            line, cwd=BUNDLE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for text in process.stdout or ():
            if not text.startswith("["):
                print(f"    {text[:150].rstrip()}", flush=True)
                continue
            self.done.append(text.split("] ", 1)[1].split(":")[0].split(" ")[0].strip())
            time.sleep(PAUSE)
            found = self._processes(psutil.Process(process.pid))
            for one in found:
                self.memory_mb.setdefault(one.pid, []).append(memory_of(one.pid))
            if len(self.done) == kill_at and found:
                print(f"    worker {found[0].pid} is killed after {kill_at} cases", flush=True)
                found[0].send_signal(signal.SIGKILL)
        process.wait()
        self.seconds = time.perf_counter() - began
        print(f"{self.command}: {len(self.done)} cases in {self.seconds:.0f} s, {self.growth()}", flush=True)
        return self

    def _processes(self, main: psutil.Process) -> list[psutil.Process]:
        """Return those that do cases."""
        children = main.children(recursive=True) if self.command == "cohort" else []
        return [p for p in children if is_worker(p)] if children else [main]

    def rate(self) -> float:
        """Return how many cases it did a minute, its start included."""
        return 60 * len(self.done) / self.seconds

    def growth(self) -> str:
        """Return what each process holds between cases, its least memory over ten of them, at first and at its end.

        In brackets is its highest memory until then.
        """
        count = EARLY * self.workers
        said = []
        for memory in self.memory_mb.values():
            if len(memory) >= 2 * count:
                first, last = (min(own for own, _ in part) for part in (memory[:count][count // 2 :], memory[-count:]))
                most = f"{memory[count - 1][1]:.0f} → {memory[-1][1]:.0f}"
                said.append(f"{first:.0f} → {last:.0f} MB, {last / first - 1:+.1%} ({most})")
        return "; ".join(said)


def is_worker(process: psutil.Process) -> bool:
    """Whether a process does cases of a cohort; one that has ended does not."""
    try:
        return "spawn_main" in str(process.cmdline())
    except psutil.Error:
        return False


def memory_of(process: int) -> tuple[float, float]:
    """Return the resident memory of a process and the highest so far, in MB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    known = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int(known.get(name, "0 kB").split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def wrong(one: Path, many: Path, cases: int) -> list[str]:
    """Return what is wrong with a run of a cohort, beside one of some of its cases one after another."""
    report = json.loads((many / "report.json").read_text())
    print("   ", dict(Counter(case["status"] for case in report["cases"])))
    failed = {case["case"]: case["reason"] for case in report["cases"] if case["status"] == "failed"}
    print("\n".join(f"    {name} failed: {reason}" for name, reason in failed.items()))
    found = [] if set(failed) == {GLUTTON, CORRUPT} else [f"failed: {sorted(failed)}"]
    if len(report["cases"]) != cases + 2:
        found.append(f"{len(report['cases'])} cases are reported")
    expected, got = results(one), results(many)
    compared = {name.split("/")[0] for name in expected}
    files = {name for name in {*expected, *got} if name.split("/")[0] in compared}
    print(f"    {len(files)} files of {len(compared)} cases compared")
    found += [f"{name} is not as one after another" for name in sorted(files) if expected.get(name) != got.get(name)]
    missing = {case["case"] for case in report["cases"]} - {name.split("/")[0] for name in got} - set(failed)
    return found + [f"{name} has no results" for name in sorted(missing)]


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cohort.at_scale", description=__doc__)
    parser.add_argument("--label_dir", required=True, help="folder of true label maps")
    parser.add_argument("--organ", default="hippocampus", help="their organ pack")
    parser.add_argument("--cases", type=int, default=1500, help="how many masks are simulated")
    parser.add_argument("--compared", type=int, default=200, help="how many are refined one after another, too")
    parser.add_argument("--preset", default="default", help="of the refinement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cohort-") as name:
        folder = Path(name)
        make_masks(options.label_dir, options.organ, options.cases, options.compared, folder)
        masks, one, many = folder / "all", folder / "one", folder / "many"
        job = ["--organ", options.organ, "--preset", options.preset]
        cohort = [*job, "--memory", MEMORY]
        alone = Run("refine", 1)(folder / "some", one, job)
        killed = Run("cohort", 2)(masks, many, cohort, kill_at=options.cases // 2)
        found = wrong(one, many, options.cases)
        lost = next(file for file in sorted(many.rglob("*_refined.nii.gz")) if (one / file.parent.name).is_dir())
        lost.unlink()
        again = Run("cohort", 2)(masks, many, cohort)
        found += wrong(one, many, options.cases)
        if sorted(again.done) != sorted([lost.parent.name, GLUTTON, CORRUPT]):
            found.append(f"done again: {again.done[:20]}")
    print("| run | cases | cases a minute | held between cases, after ten and at the end (at most) |")
    print("| --- | --- | --- | --- |")
    named = {"one after another": alone, "two workers, one killed": killed, "again": again}
    for label, what in named.items():
        print(f"| {label} | {len(what.done)} | {what.rate():.1f} | {what.growth()} |")
    print(f"{len(found)} wrong", *found[:20], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
