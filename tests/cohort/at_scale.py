"""A cohort on two workers in which things go wrong: `python -m tests.cohort.at_scale --label_dir DIR --cases 1500`.

Masks are simulated from label maps (as `simulate` does); one more is too large for a worker's memory, one is corrupt.
They are refined one after another (`refine --workers 1`), without the large one, and then by `cohort` on two workers,
of which one is killed on the way; then by `cohort` again. What counts as wrong: a healthy case that is not done, a
result that is not that of the first run, byte for byte, and a case that is done twice without need. The exit code is 1
if anything was wrong.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count, product
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

from scripts.simulation.simulate import simulate
from tests.kills import results

BUNDLE = Path(__file__).resolve().parents[2]
KINDS = ("missing", "islands", "steps", "rough", "mixed")
GLUTTON, CORRUPT = "glutton", "corrupt"
LARGE = (1200, 1200, 1000)  # voxels of two bytes
MEMORY = "2GB"  # of a worker


def make_masks(label_dir: str, organ: str, cases: int, folder: Path) -> None:
    """Write so many simulated masks, the large one and the corrupt one."""
    (folder / "healthy").mkdir(parents=True)
    (folder / "all").mkdir()
    left = cases
    for seed in count():
        simulated = folder / "simulated" / str(seed)
        simulate(label_dir, organ, str(simulated), KINDS, seed=seed)
        for name, kind in product(sorted(file.name for file in (simulated / KINDS[0]).iterdir()), KINDS):
            if left:
                for place in ("healthy", "all"):
                    os.link(simulated / kind / name, folder / place / f"{kind}_{seed}_{name}")
                left -= 1
        if not left:
            break
    large = nib.Nifti1Image(np.broadcast_to(np.int16(0), LARGE), np.eye(4))
    nib.save(large, folder / "all" / f"{GLUTTON}.nii.gz")
    for place in ("healthy", "all"):
        (folder / place / f"{CORRUPT}.nii.gz").write_bytes(b"broken")


def run(command: str, masks: Path, output: Path, options: list[str], kill_at: int = 0) -> float:
    """Run a command; return how many cases it did a minute, its start included.

    Args:
        command: `refine` or `cohort`.
        masks: their folder.
        output: of the run.
        options: further ones.
        kill_at: number of cases from which on a worker is killed, once; 0 for none.
    """
    line = [sys.executable, "-m", "scripts", command, "--dataset_dir", str(masks), "--output_dir", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*line, *options, "--html", "false"], cwd=BUNDLE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    done = 0
    for text in process.stdout or ():
        done += text.startswith("[")
        if not text.startswith("["):
            print(f"    {text[:150].rstrip()}", flush=True)
        if kill_at and done == kill_at:
            kill_at = 0
            worker = next(
                p for p in psutil.Process(process.pid).children(recursive=True) if "spawn" in str(p.cmdline())
            )
            print(f"    worker {worker.pid} is killed after {done} cases", flush=True)
            worker.send_signal(signal.SIGKILL)
    process.wait()
    rate = 60 * done / (time.perf_counter() - began)
    print(f"{command} {' '.join(options)}: {done} cases, {rate:.1f} a minute", flush=True)
    return rate


def wrong(one: Path, many: Path, cases: int) -> list[str]:
    """Return what is wrong with a run of a cohort, beside one of the healthy cases one after another."""
    report = json.loads((many / "report.json").read_text())
    failed = {case["case"]: case["reason"] for case in report["cases"] if case["status"] == "failed"}
    print("\n".join(f"    {name} failed: {reason}" for name, reason in failed.items()))
    found = [] if set(failed) == {GLUTTON, CORRUPT} else [f"failed: {sorted(failed)}"]
    if len(report["cases"]) != cases + 2:
        found.append(f"{len(report['cases'])} cases are reported")
    expected, got = results(one), results(many)
    files = {name for name in {*expected, *got} if not name.startswith(GLUTTON)}
    different = sorted(name for name in files if expected.get(name) != got.get(name))
    print(f"    {len(files)} files of {cases} healthy cases compared")
    return found + [f"{name} is another than one after another" for name in different]


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cohort.at_scale", description=__doc__)
    parser.add_argument("--label_dir", required=True, help="folder of true label maps")
    parser.add_argument("--organ", default="hippocampus", help="their organ pack")
    parser.add_argument("--cases", type=int, default=1500, help="how many masks are simulated")
    parser.add_argument("--preset", default="linear", help="of the refinement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cohort-") as name:
        folder = Path(name)
        make_masks(options.label_dir, options.organ, options.cases, folder)
        job = ["--organ", options.organ, "--preset", options.preset]
        run("refine", folder / "healthy", folder / "one", [*job, "--workers", "1"])
        cohort = [*job, "--workers", "2", "--memory", MEMORY]
        run("cohort", folder / "all", folder / "many", cohort, kill_at=options.cases // 2)
        found = wrong(folder / "one", folder / "many", options.cases)
        run("cohort", folder / "all", folder / "many", cohort)
        found += wrong(folder / "one", folder / "many", options.cases)
    print(f"{len(found)} wrong", *found[:20], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
