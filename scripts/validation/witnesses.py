"""`python -m scripts witnesses`: what the three fits of a mask know of its errors, where the truth is known."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
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
from ..refine.draw_mesh import MeshRequest
from ..refine.stages import CODES, LINEAR, TUNED, Refined
from ..run.request import Request
from ..simulation.simulate import CLEAN, choose_kinds, read_truth, with_errors
from .proposals import MAJORITY, dsc, score_proposals

Row = Mapping[str, Any]
Figure = Callable[[Sequence[Row]], str]
INITIAL, RESULT, ALL = "initial", "result", "all"
STAGES = (INITIAL, LINEAR, CODES, TUNED, RESULT)
FALL = 2.0  # points of DSC by which a fit is named that is worse than the linear one
POINTS = 3000  # of a true surface
COVERAGE = {"uncertainty_median_mm": 2, "within_one_percent": 0, "within_two_percent": 0, "rank_correlation": 2}
COVERAGE_HEADS = ("median mm", "true surface within one sd, %", "within two, %", "rank correlation with the error")


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

    Label maps are damaged (see `python -m scripts simulate --help`) and refined by shape alone. Measured are, against
    the truth,

    - the DSC of the fits, and how many are worse than the linear one that they started from;
    - the DSC that each would bring, and the majority of the three, if the gate knew of every region whether to take it;
    - the uncertainty of `refine --uncertainty true`: which share of the true surface lies within one and two standard
      deviations of the refined one, as the nearest vertex has it.

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
    """Refine a label map (X, Y, Z) and compare with the truth: a row a structure that could be refined."""
    sampled = refiner.sample(refiner.align(label_map, affine), label_map, affine, enlarged=True)
    fitted = refiner.fit(sampled)
    refined, shapes = refiner.reconstruct(fitted, label_map, affine, MeshRequest(uncertain=True))
    rows: list[dict[str, Any]] = []
    for one in shapes:
        true = one.structure.mask(truth, affine)
        if isinstance(one, Refined) and true.any():
            step = refiner.steps[one.name].reconstruction
            head = {"structure": one.name, f"dsc_{INITIAL}": dsc(one.mask.whole(), true)}
            head[f"dsc_{RESULT}"] = dsc(one.structure.mask(refined, affine), true)
            rows.append(head | score_proposals(one, step, true) | coverage(one, true))
    return rows


def coverage(refined: Refined, truth: np.ndarray) -> dict[str, float]:
    """Return what a structure's uncertainty holds of the surface of a true mask (X, Y, Z); NaN where it has none.

    Beside the shares there is the rank correlation of uncertainty and distance: whether it tells where errors are.
    """
    if refined.mesh is None or refined.uncertainty_mm is None:
        return dict.fromkeys(COVERAGE, np.nan)
    points = sample_surface(mask_to_surface(truth, refined.affine), POINTS, seed=0)[0]
    known = refined.uncertainty_mm[cKDTree(refined.mesh.vertices).query(points)[1]]
    off_mm = surface_distance(refined.mesh, points)
    median, *shares = np.median(refined.uncertainty_mm), *(100.0 * np.mean(off_mm <= n * known) for n in (1, 2))
    correlation = stats.spearmanr(known, off_mm).statistic if np.ptp(known) > 0 else np.nan
    return dict(zip(COVERAGE, np.round([median, *shares, correlation], 3).tolist(), strict=True))


def page(organ: str, command: str, rows: Sequence[Row]) -> str:
    """Return the page: means over the masks of a kind, and over all."""
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(row["kind"] for row in rows)}
    groups[ALL] = list(rows)
    fits = [(name, _mean(f"dsc_{name}", 1)) for name in STAGES]
    fits += [(f"{name} {FALL:g} below {LINEAR}", _falls(name)) for name in (CODES, TUNED)]
    gates = [(RESULT, _mean(f"dsc_{RESULT}", 2, f"dsc_{INITIAL}"))]
    gates += [(name, _mean(f"gate_{name}", 2, f"dsc_{INITIAL}")) for name in (LINEAR, CODES, TUNED, MAJORITY)]
    spread = list(zip(COVERAGE_HEADS, (_mean(key, digits) for key, digits in COVERAGE.items()), strict=True))
    fallen = [
        f"- {row['case']}, {row['structure']}, {row['kind']}: {row[f'dsc_{LINEAR}']:.1f} → {row[f'dsc_{TUNED}']:.1f}"
        for row in rows
        if fall(row, TUNED) > FALL
    ]
    parts = [
        f"# {organ}: what the three fits know",
        f"```bash\n{command}\n```",
        "## DSC of the fits, %",
        _table(groups, fits),
        *(["Tuned fits below their linear start:", "\n".join(fallen)] if fallen else []),
        "## DSC gained by the refinement, and by a gate that knew the truth",
        _table(groups, gates),
        "## Uncertainty",
        _table(groups, spread),
    ]
    return "\n\n".join(parts) + "\n"


def fall(row: Row, fit: str) -> float:
    """Return by how many points of DSC a fit is worse than the linear one that it started from."""
    return float(row[f"dsc_{LINEAR}"] - row[f"dsc_{fit}"])


def _table(groups: Mapping[str, Sequence[Row]], columns: Sequence[tuple[str, Figure]]) -> str:
    body = [[kind, str(len(own)), *(figure(own) for _, figure in columns)] for kind, own in groups.items()]
    return markdown_table(("errors", "n", *(head for head, _ in columns)), body)


def _mean(key: str, digits: int, minus: str = "") -> Figure:
    """Return rows → their mean as text; of the difference to `minus`, with a sign, where that is given."""
    sign = "+" if minus else ""

    def mean(rows: Sequence[Row]) -> str:
        found = [row[key] - (row[minus] if minus else 0.0) for row in rows if not np.isnan(row[key])]
        return f"{np.mean(found):{sign}.{digits}f}" if found else "–"

    return mean


def _falls(fit: str) -> Figure:
    return lambda rows: str(sum(fall(row, fit) > FALL for row in rows))
