"""The page of the ablation: what ran, what each part is worth, and the paper's order beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..evaluation.summary import Summary
from ..evaluation.tables import markdown_table
from ..report.version import bundle_version
from ..report.words import counted
from ..simulation.simulate import CLEAN

FULL, MIXED = "all parts", "mixed"
TITLES = {
    CLEAN: "How well does the fit describe unseen shapes?",
    MIXED: "How well does the fit repair masks with simulated errors?",
}
SCORES = {"dsc": ("DSC %", 1), "hd95_mm": ("HD95 mm", 2), "assd_mm": ("ASSD mm", 2), "cd": ("CD ×1000", 3)}
PAPER_CD = {  # the paper's ablation: mean CD ×1000 of liver, pancreas and lung lobes; best first
    FULL: (0.232, 0.128, 0.417),
    "no hyper code": (0.264, 0.133, 0.485),
    "no instance code": (0.275, 0.137, 0.512),
    "no code": (0.342, 0.188, 0.621),
}


def ablation_page(
    organ: str,
    command: str,
    sizes: Mapping[str, int],
    cases: int,
    changes: Mapping[str, str],
    summaries: Mapping[str, Summary],
) -> str:
    """Return the page.

    Args:
        organ: name of the organ pack.
        command: that made it.
        sizes: shapes, epochs and seed of the command.
        cases: that were fitted.
        changes: variant → the options that make it.
        summaries: `CLEAN` and `MIXED` → the scores of the fits of such masks, compared with `FULL`; without the
            variants whose training failed.
    """
    parts = [
        f"# What is each part of the method worth: {organ}",
        f"Each variant leaves out or replaces one part. It trained a prior of its own on the same {sizes['shapes']} "
        f"label maps of the training part for {50 * sizes['epochs']} steps (by default it would be 1200 steps on all "
        "of them); those of TIM fit with the first one's prior. Each then fitted the same "
        f"{counted(cases, 'label map')} of the validation part, from the mask alone, and the fit replaced the mask (no "
        f"fusion, no gate). Seed {sizes['seed']}, bundle {bundle_version()}. Trainings this short, on so few shapes "
        "and with one seed, tell large effects only: where an interval holds 0, nothing was shown.",
        f"```bash\n{command}\n```",
        "Means over the cases; in brackets the difference from the first line, with its 95 % bootstrap interval over "
        "patients. CD in squared diameters of the truth.",
    ]
    for kind, title in TITLES.items():
        parts += [f"## {title}", _scores(summaries[kind], list(changes))]
    parts += [
        "## Is the order of the codes the paper's?",
        "Mean CD ×1000, in the paper's order.",
        _paper(summaries),
        *(_verdict(kind, summaries[kind]) for kind in TITLES),
        "## Which options are these?",
        "Those with two dashes are of `python -m scripts train-prior`; `keep_share` is a setting of "
        "`configs/presets.yaml`, which an `organ.yaml` can set under `refine`.",
        markdown_table(("variant", "option"), [[name, f"`{said}`" if said else ""] for name, said in changes.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(summary: Summary, names: Sequence[str]) -> str:
    body = []
    for name in names:
        if (name, "dsc") not in summary:
            body.append([name, "its training failed", *[""] * len(SCORES)])
            continue
        figures = [_figure(summary[name, metric], digits) for metric, (_, digits) in SCORES.items()]
        body.append([name, *figures, f"{summary[name, 'dsc']['failed']:.0f}"])
    return markdown_table(("variant", *(head for head, _ in SCORES.values()), "empty"), body)


def _figure(line: Mapping[str, float], digits: int) -> str:
    text = f"{line['mean']:.{digits}f}"
    if math.isnan(line["difference"]):
        return text
    ends = [line[f"difference_{end}"] for end in ("low", "high")]
    interval = "" if any(map(math.isnan, ends)) else f" [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"
    return f"{text} ({line['difference']:+.{digits}f}{interval})"


def _paper(summaries: Mapping[str, Summary]) -> str:
    ours = [_cd(summaries[kind]) for kind in TITLES]
    body = [
        [name, *(f"{value:.3f}" for value in values), *(f"{cd[name]:.3f}" if name in cd else "–" for cd in ours)]
        for name, values in PAPER_CD.items()
    ]
    heads = ("paper: liver", "paper: pancreas", "paper: lung lobes", "here: true masks", "here: masks with errors")
    return markdown_table(("variant", *heads), body)


def _verdict(kind: str, summary: Summary) -> str:
    cd = _cd(summary)
    ours = sorted(cd, key=lambda name: cd[name])
    masks = "true masks" if kind == CLEAN else "masks with errors"
    return f"Ours on {masks}, best first: {', '.join(ours)}" + (": the paper's." if ours == list(PAPER_CD) else ".")


def _cd(summary: Summary) -> dict[str, float]:
    """Return variant → mean CD, of the paper's variants that have one, in its order."""
    return {name: summary[name, "cd"]["mean"] for name in PAPER_CD if (name, "cd") in summary}
