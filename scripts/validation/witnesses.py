"""`python -m scripts witnesses`: what the three fits of a mask know of its errors, where the truth is known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from tqdm import tqdm

from ..cases.files import write_csv, write_text
from ..cases.find import case_name
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..evaluation.tables import markdown_table
from ..geometry.distance import surface_distance
from ..geometry.surface import mask_to_surface, sample_surface
from ..refine.chain import Refiner
from ..refine.stages import Refined
from ..run.request import Request
from ..simulation.simulate import CLEAN, choose_kinds, read_truth, with_errors

POINTS = 3000  # of a true surface
ALL = "all"


def witnesses(
    organ: str,
    label_dir: str,
    output_dir: str,
    split: str = "validation",
    cases: int = 0,
    kinds: str | Sequence[str] = "missing,rough,mixed,clean",
    seed: int = 0,
    device: str = "",
    label_source: str = "",
) -> str:
    """Measure what the three fits of a mask (linear, by codes, tuned) know of its errors, on unseen true shapes.

    Label maps are damaged (see `python -m scripts simulate --help`) and refined by shape alone. Measured is the
    uncertainty that `refine --uncertainty true` gives by the spread of the fits: which share of the true surface lies
    within one and two standard deviations of the refined one, each as the nearest vertex has it.

    Args:
        organ: name of the organ pack, or path of its folder.
        label_dir: folder of true label maps.
        output_dir: receives witnesses.md and witnesses.csv.
        split: the pack's split to take the cases from; empty for all of the folder, which must then be unseen.
        cases: at most so many, spread evenly over their names; 0 for all.
        kinds: which kinds of errors, such as missing,rough.
        seed: of errors and fits.
        device: cpu or cuda; empty for cuda where there is one.
        label_source: whose labels the label maps have, one of the organ pack's sources, where no names tell.

    Returns:
        The path of witnesses.md.

    Raises:
        ValueError: an option makes no sense, the split's label maps are not in the folder, or nothing was refined.
        CaseError: a label map cannot be used.
        SystemExit: the pack lacks a prior.
    """
    chosen = choose_kinds(kinds)
    found = Request.of(organ, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), seed=seed)
    refiner = found.require().refiner
    assert refiner is not None  # it was asked for
    structures = refiner.pack.structures
    files, labels = choose_labels(label_dir, refiner.pack, split, cases), LabelSource.of(refiner.pack, label_source)
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(files) * len(chosen), desc="witnesses", unit="mask", disable=None) as progress:
        for file in files:
            truth, affine, _ = read_truth(file, labels)
            for kind in chosen:
                errors = f"{seed}/{kind}/{case_name(file)}"
                mask = truth if kind == CLEAN else with_errors(truth, affine, structures, kind, errors)
                head = {"case": case_name(file), "kind": kind}
                rows += [head | row for row in score(refiner, mask, truth, affine)]
                progress.update()
            write_csv(out / "witnesses.csv", rows)  # after each case, to look at while it runs
    if not rows:
        raise ValueError(f"no mask of {label_dir} could be refined as '{refiner.pack.name}'")
    options = {"organ": organ, "label_dir": label_dir, "output_dir": output_dir, "split": split, "cases": cases}
    options |= {"kinds": ",".join(chosen), "seed": seed}
    options |= {"label_source": label_source} if label_source else {}
    command = "python -m scripts witnesses " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    write_text(out / "witnesses.md", page(refiner.pack.name, command, rows))
    return str(out / "witnesses.md")


def score(refiner: Refiner, label_map: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> list[dict[str, Any]]:
    """Refine a label map (X, Y, Z) and compare with the truth: a row a structure that has an uncertainty."""
    fitted = refiner.fit(refiner.sample(refiner.align(label_map, affine), label_map, affine))
    _, shapes = refiner.reconstruct(fitted, label_map, affine, uncertain=True)
    truths = {shape.name: mask for shape, mask in refiner.pack.shapes(truth, affine) if mask.any()}
    return [
        {"structure": one.name, **coverage(one, truths[one.name])}
        for one in shapes
        if isinstance(one, Refined) and one.uncertainty_mm is not None and one.name in truths
    ]


def coverage(refined: Refined, truth: np.ndarray) -> dict[str, float]:
    """Return the uncertainty's median in mm, and the shares of the surface of a true mask (X, Y, Z) that it holds."""
    assert refined.mesh is not None and refined.uncertainty_mm is not None
    points = sample_surface(mask_to_surface(truth, refined.affine), POINTS, seed=0)[0]
    nearest = cKDTree(refined.mesh.vertices).query(points)[1]
    deviations = surface_distance(refined.mesh, points) / refined.uncertainty_mm[nearest]
    return {
        "uncertainty_median_mm": round(float(np.median(refined.uncertainty_mm)), 3),
        "within_one_percent": round(100.0 * float((deviations <= 1).mean()), 1),
        "within_two_percent": round(100.0 * float((deviations <= 2).mean()), 1),
    }


def page(organ: str, command: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the page: means over all masks of a kind, and of all."""
    parts = [f"# {organ}: what the three fits know", f"```bash\n{command}\n```"]
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(row["kind"] for row in rows)}
    groups[ALL] = list(rows)
    columns = {"uncertainty_median_mm": 2, "within_one_percent": 0, "within_two_percent": 0}
    body = [
        [kind, str(len(own)), *(f"{np.mean([row[key] for row in own]):.{digits}f}" for key, digits in columns.items())]
        for kind, own in groups.items()
    ]
    heads = ("errors", "n", "uncertainty mm", "true surface within one sd, %", "within two, %")
    parts += ["## Uncertainty", markdown_table(heads, body)]
    return "\n\n".join(parts) + "\n"
