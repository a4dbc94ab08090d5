"""`python -m scripts limits`: how deep a fit must contradict a mask before it overrules it, chosen on unseen shapes.

A prior describes unseen shapes up to some distance, which grows with the shape and falls with the number of shapes it
learned from, and which is not the same for what a shape has and the prior lacks as for the reverse. The gate's
`excess_radii` and `missing_radii`, over the shape's radius, must lie above it, or true masks are changed, and not far
above, or errors stay. One pair serves all packs of the bundle; this looks for that of one's own. The fit does not
depend on them, so each mask is fitted once and judged with every limit.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..cases.files import write_csv, write_text
from ..cases.find import case_name
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..evaluation.tables import markdown_table
from ..metrics.statistics import HARM_DSC
from ..refine.chain import Refiner
from ..refine.merge import merge
from ..refine.reconstruct import ReconstructShape
from ..refine.reconstruction import Measured
from ..refine.stages import Fitted
from ..run.request import Request
from ..simulation.simulate import CLEAN, choose_kinds, read_truth, with_errors
from ..training.prior.check import dice

# From one limit to the next, where none are given: from two below the pack's least to two above its largest.
STEP = 1.25
LEAST, MOST = 0.05, 100.0  # radii
HARMED_SHARE = 0.05  # of the masks may lose more than HARM_DSC points
GIVEN_UP = 0.05  # of the gain, for larger limits
EXCESS, MISSING = "excess_radii", "missing_radii"


def limits(
    organ: str,
    label_dir: str,
    output_dir: str,
    split: str = "validation",
    cases: int = 0,
    kinds: str | Sequence[str] = "missing,mixed,clean",
    limits_radii: str | float | Sequence[float] = "",
    seed: int = 0,
    device: str = "",
    label_source: str = "",
) -> str:
    """Choose from which depth on the refinement overrules masks of an organ, its `excess_radii` and `missing_radii`.

    Label maps that the prior has not seen are damaged (see `python -m scripts simulate --help`), fitted once, and
    judged with each limit: with `excess_radii` alone, so that nothing is added, and with `missing_radii` alone, so that
    only islands are removed; the two gains add up. Looked for is, for each structure, the pair that gains most on
    average over the kinds of errors among those that are harmless: with which at most 5 % of the masks of every kind,
    clean ones too, lose more than 0.5 points of DSC; or that harm the fewest, if there is none. The shapes that decide
    are few, so for a margin a limit counts as harmless where the next smaller one that is tried is so, and chosen is
    the pair with the largest limits (the largest product) that gives up at most 5 % of that gain. Nothing of the pack
    is changed: the last lines of the page are to be put into its organ.yaml. Do not score the refinement on the shapes
    that chose its limits.

    Args:
        organ: name of the organ pack, or path of its folder.
        label_dir: folder of true label maps.
        output_dir: receives limits.md and limits.csv.
        split: the pack's split to take the cases from; empty for all of the folder, which must then be unseen.
        cases: at most so many, spread evenly over their names; 0 for all.
        kinds: which kinds of errors; clean ones are always looked at.
        limits_radii: limits to try, over the shape's radius, such as 0.1,0.15,0.2; empty for some around those of the
            pack, a quarter apart.
        seed: of errors and fits.
        device: cpu or cuda; empty for cuda where there is one.
        label_source: whose labels the label maps have, one of the organ pack's sources, where no names tell.

    Returns:
        The path of limits.md.

    Raises:
        ValueError: an option makes no sense, or the split's label maps are not in the folder.
        CaseError: a label map cannot be used.
        SystemExit: the pack lacks a prior.
    """
    refiner = (
        Request.of(organ, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), seed=seed)
        .require()
        .refiner
    )
    assert refiner is not None  # it was asked for
    pack = refiner.pack
    chosen_kinds = list(dict.fromkeys([*choose_kinds(kinds), CLEAN]))
    present = [limit for one in refiner.settings.values() for limit in (one.excess_radii, one.missing_radii)]
    tried = _limits(limits_radii, present)
    files = choose_labels(label_dir, pack, split, cases)
    search = LimitSearch(refiner, tried)
    labels = LabelSource.of(pack, label_source)
    rows: list[dict[str, Any]] = []
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(files) * len(chosen_kinds), desc="limits", unit="mask", disable=None) as progress:
        for file in files:
            truth, affine, _ = read_truth(file, labels)
            for kind in chosen_kinds:
                errors = f"{seed}/{kind}/{case_name(file)}"
                mask = truth if kind == CLEAN else with_errors(truth, affine, pack.structures, kind, errors)
                head = {"case": case_name(file), "kind": kind}
                rows += [head | row for row in search.score(mask, truth, affine)]
                progress.update()
            write_csv(out / "limits.csv", rows)  # after each case, to look at while it runs
    options = {"organ": organ, "label_dir": label_dir, "output_dir": output_dir, "split": split, "cases": cases}
    options |= {"kinds": ",".join(chosen_kinds), "limits_radii": ",".join(f"{one:g}" for one in tried), "seed": seed}
    options |= {"label_source": label_source} if label_source else {}
    command = "python -m scripts limits " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    write_text(out / "limits.md", limits_page(pack.name, command, rows))
    return str(out / "limits.md")


class LimitSearch:
    """Fits label maps once and judges them with several limits.

    Args:
        refiner: of the organ.
        limits_radii: values of `excess_radii` and `missing_radii`.
    """

    def __init__(self, refiner: Refiner, limits_radii: Sequence[float]) -> None:
        self.refiner = refiner
        never: dict[str, Any] = {EXCESS: np.inf, MISSING: np.inf}
        tried = [("", np.inf), *product((EXCESS, MISSING), limits_radii)]
        self.reconstruct = {
            (which, limit): {
                name: ReconstructShape(replace(own, **(never | ({which: limit} if which else {}))))
                for name, own in refiner.settings.items()
            }
            for which, limit in tried
        }

    def score(self, label_map: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> list[dict[str, Any]]:
        """Refine a label map (X, Y, Z) with each limit.

        Returns:
            Rows with structure, which limit (none: only islands go), limit, and DSC in % before and after, the same
            where the structure cannot be fitted; none of a structure that the truth lacks.
        """
        pack = self.refiner.pack
        truths, before = pack.masks(truth, affine), pack.masks(label_map, affine)
        first = next(iter(self.reconstruct.values()))
        measured: list[tuple[Fitted, Measured]] = []
        aligned = self.refiner.align(label_map, affine)
        for one in self.refiner.fit(self.refiner.sample(aligned, label_map, affine, enlarged=True)):
            if isinstance(one, Fitted):
                with suppress(ValueError):  # the fit has left the image: the mask stays
                    measured.append((one, first[one.name].measure(one)))
        rows = []
        for (which, limit), reconstruct in self.reconstruct.items():
            parts = [(fitted, reconstruct[fitted.name].judge(own, fitted)) for fitted, own in measured]
            after = {name: mask.whole() for name, mask in merge(label_map, affine, parts)[1].items()}
            rows += [
                {
                    "structure": name,
                    "which": which,
                    "limit": limit,
                    "dsc_before": 100.0 * dice(before[name], mask),
                    "dsc_after": 100.0 * dice(after.get(name, before[name]), mask),
                }
                for name, mask in truths.items()
                if mask.any()
            ]
        return rows


def choose_limits(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return `excess_radii` and `missing_radii` by rows of one structure as `limits` describes.

    Args:
        rows: `kind`, `which`, `limit`, `dsc_before`, `dsc_after`, of the same masks for every limit.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    wanted = [kind for kind in kinds if kind != CLEAN]
    tried = sorted({row["limit"] for row in rows if row["which"]})
    lower = dict(zip(tried, [tried[0], *tried], strict=False))
    harmed, gained = {}, {}
    for pair in product(tried, tried):
        margin = lower[pair[0]], lower[pair[1]]
        share = max(float((gains(rows, kind, *margin) < -HARM_DSC).mean()) for kind in kinds)
        harmed[pair] = max(share, HARMED_SHARE)
        gained[pair] = float(np.mean([gains(rows, kind, *pair).mean() for kind in wanted])) if wanted else 0.0
    safest = [pair for pair in harmed if harmed[pair] == min(harmed.values())]
    best = max(gained[pair] for pair in safest)
    return max(
        (pair for pair in safest if gained[pair] >= best - GIVEN_UP * abs(best)), key=lambda pair: pair[0] * pair[1]
    )


def gains(rows: Sequence[Mapping[str, Any]], kind: str, excess: float | None, missing: float | None) -> np.ndarray:
    """Return the points of DSC (N,) that each mask of a kind gains with a pair of limits; None for no such changes."""
    islands = _of_limit(rows, kind, "", np.inf)
    total = islands.copy()
    for which, limit in ((EXCESS, excess), (MISSING, missing)):
        if limit is not None:
            total += _of_limit(rows, kind, which, limit) - islands
    return total


def limits_page(name: str, command: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page as Markdown: gains by structure, kind and limit, the choice, and the lines for organ.yaml.

    Args:
        name: of the organ pack.
        command: that made the page.
        rows: of all cases, see `LimitSearch.score`, with `kind`.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    parts = [
        f"# Limits of the organ pack {name}",
        f"```bash\n{command}\n```",
        "Points of DSC gained, the least gain of a mask, and how many masks lose more than "
        f"{HARM_DSC:g}: where only islands are removed, and with one limit more, the depth from which on the fit "
        f"overrules the mask. `{EXCESS}` lets it remove, `{MISSING}` lets it add. The last line is "
        "of the pair chosen: the sum of what either brings.",
    ]
    lines = []
    for structure in dict.fromkeys(row["structure"] for row in rows):
        own = [row for row in rows if row["structure"] == structure]
        excess, missing = choose_limits(own)
        tried = sorted({row["limit"] for row in own if row["which"]})
        choices: list[tuple[str, float | None, float | None]] = [("islands only", None, None)]
        choices += [(f"{EXCESS} {limit:g}", limit, None) for limit in tried]
        choices += [(f"{MISSING} {limit:g}", None, limit) for limit in tried]
        choices.append((f"**{EXCESS} {excess:g}, {MISSING} {missing:g}**", excess, missing))
        body = [[text, *[_cell(gains(own, kind, *pair)) for kind in kinds]] for text, *pair in choices]
        parts += [f"## {structure}", markdown_table(("limits", *kinds), body)]
        lines.append(f"{structure}: refine: {{{EXCESS}: {excess:g}, {MISSING}: {missing:g}}}")
    parts.append("For the structures in organ.yaml:\n\n```\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts) + "\n"


def _cell(gained: np.ndarray) -> str:
    return f"{gained.mean():+.2f} ({gained.min():+.2f}), {(gained < -HARM_DSC).sum()} of {len(gained)}"


def _of_limit(rows: Sequence[Mapping[str, Any]], kind: str, which: str, limit: float) -> np.ndarray:
    own = [row for row in rows if (row["kind"], row["which"], row["limit"]) == (kind, which, limit)]
    return np.array([row["dsc_after"] - row["dsc_before"] for row in own])


def _limits(given: str | float | Sequence[float], present: Sequence[float]) -> list[float]:
    """Return the limits to try, in order.

    Raises:
        ValueError: one is no positive number.
    """
    if given == "":
        present = [limit for limit in present if limit > 0] or [LEAST]
        least, steps = min(present) / STEP**2, np.log(max(present) / min(present)) / np.log(STEP)
        return [round(float(least * STEP**k), 3) for k in range(int(np.ceil(steps)) + 5)]
    parts = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int | float) else list(given)
    try:
        values = sorted({float(part) for part in parts})
    except ValueError as error:
        raise ValueError(f"limits_radii must be shares of the radius such as 0.1,0.15,0.2, not {given!r}") from error
    if not values or not all(0 < value <= MOST for value in values):
        raise ValueError(f"limits_radii must be shares of the radius above 0, such as 0.1,0.15,0.2, not {given!r}")
    return values
