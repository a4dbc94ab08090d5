"""`python -m scripts speed`: plain ways against ours, and against what the machine can do, in one run."""

from __future__ import annotations

import os
import platform
import shlex
from pathlib import Path

import torch
from tqdm import tqdm

from ..cases.files import write_json, write_text
from ..organ.pack import OrganPack
from ..prior.prior import ShapePrior
from ..refine.settings import RefineSettings
from .alignment import alignment
from .compare import Compared, Task, compare
from .cost import Curve, curves_of, measure, write_plot
from .field import field_on_grid
from .machine import Machine
from .mask import counts, distances
from .page import PLOT, page
from .stacked import same_size, stacked_fit
from .training import training_step

LEAST_STACKED = 2


def speed(organ: str, output_dir: str, repeats: int = 3) -> str:
    """Measure how fast we are: plain references against our own ways, as ratios, on one thread of the CPU.

    Compared are a training step of a prior (nested autograd, forward derivatives), a fitted field on a grid of voxels
    (all of them, near its surface), the alignment (pycpd, PICCT), distances and counts of a mask (SciPy's, ours) and
    the fit of several structures (one after another, in one stack). Both ways come to the same result, which is
    checked, and are timed by turns; medians are given. How much of the machine's own rates ours reaches is given, too,
    and what both ways cost against points, shapes, voxels and structures. Seconds are the processor's. Set
    OMP_NUM_THREADS=1: it gives NumPy one thread, too.

    Args:
        organ: name of the organ pack, or path: its largest prior is evaluated and aligned, all are fitted.
        output_dir: receives speed.json, speed.md and its plot speed.png.
        repeats: how often each way is timed.

    Returns:
        The path of speed.md.

    Raises:
        ValueError: `repeats` is less than 1, or two ways did not come to the same result.
        OrganError: there is no such pack.
        FileNotFoundError: it has not all its priors.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, not {repeats}")
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    tasks, curves = tasks_of(organ), costs_of(organ)
    found: list[Compared] = []
    costs: list[tuple[Curve, dict[int, Compared]]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        machine = Machine.measured(repeats)
        about = described(machine)
        runs = 2 * (repeats * len(tasks) + sum(len(curve.tasks) for curve in curves))
        with tqdm(total=runs, desc="speed", unit="run", disable=None) as bar:
            for task in tasks:
                bar.set_postfix_str(task.name)
                found.append(compare(task, repeats, bar.update))
            for curve in curves:
                bar.set_postfix_str(f"{curve.title}, {curve.unit}")
                costs.append((curve, measure(curve, bar.update)))
    finally:
        torch.set_num_threads(threads)
    options = {"organ": organ, "output_dir": output_dir, "repeats": repeats}
    command = "python -m scripts speed " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    sizes = [{**row(one), "unit": curve.unit, "size": size} for curve, of in costs for size, one in of.items()]
    told = {"command": command, "machine": about, "tasks": list(map(row, found)), "costs": sizes}
    write_json(out / "speed.json", told)
    write_plot(out / PLOT, costs)
    write_text(out / "speed.md", page(f"OMP_NUM_THREADS=1 {command}", machine, found, repeats, costs))
    return str(out / "speed.md")


def tasks_of(organ: str) -> list[Task]:
    """Return what is compared; fields and fits are those of the priors of an organ pack."""
    pack = OrganPack.load(organ)
    priors = [ShapePrior.load(file) for file in dict.fromkeys(structure.prior for structure in pack.structures)]
    largest, alike = max(priors, key=lambda prior: prior.scale_mm), same_size(priors)
    tasks = [training_step(), training_step(laplacian=False), field_on_grid(largest), alignment(largest)]
    tasks += [distances(largest), counts(largest)]
    return tasks + ([stacked_fit(alike, RefineSettings.load("default", pack))] if len(alike) >= LEAST_STACKED else [])


def costs_of(organ: str) -> list[Curve]:
    """Return what is measured at growing sizes, with the priors of an organ pack."""
    pack = OrganPack.load(organ)
    priors = [ShapePrior.load(file) for file in dict.fromkeys(structure.prior for structure in pack.structures)]
    largest = max(priors, key=lambda prior: prior.scale_mm)
    return curves_of(largest, same_size(priors), RefineSettings.load("default", pack))


def described(machine: Machine) -> dict[str, object]:
    """Return what a machine is, and what it can do, as plain values."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix_gflops": round(machine.matrix_gflops, 1),
        "memory_gbs": round(machine.memory_gbs, 1),
    }


def row(one: Compared) -> dict[str, object]:
    """Return what came of a task, as plain values."""
    return {
        "task": one.task.name,
        "reference": one.task.plain,
        "ours": one.task.ours,
        "reference_s": round(one.plain_s, 4),
        "ours_s": round(one.ours_s, 4),
        "ratio": round(one.ratio, 2),
        "apart": one.apart,
        "apart_unit": one.task.unit,
        "gflops": round(one.work.flop / one.ours_s / 1e9, 2),
        "memory_gbs": round(one.work.moved / one.ours_s / 1e9, 2),
    }
