"""The page of the comparison: what ran, whether the refinement helped each network, and all scores."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..evaluation.postprocess import LARGEST
from ..evaluation.scoring import REFERENCE
from ..evaluation.summary import Summary, read_summary
from ..evaluation.tables import markdown_table
from ..metrics.statistics import HARM_DSC
from ..organ.pack import OrganPack
from ..report.version import bundle_version
from ..report.words import counted
from .training import Budget

PRESET = "default"  # of the refinement
PLOT = "benchmarks.png"
SCORES = {  # metric → head, decimals
    "dsc": ("DSC %", 1),
    "nsd": ("NSD %", 1),
    "hd95_mm": ("HD95 mm", 2),
    "assd_mm": ("ASSD mm", 2),
    "cd": ("CD ×1000", 3),
    "emd": ("EMD", 3),
}
SHAPE, IMAGE = "refined", "refined with image"  # ways to refine


@dataclass(frozen=True)
class Trained:
    """What became of one network.

    Attributes:
        name: of the network.
        steps: batches of its training.
        seconds: that it took.
        validation_dice: at its end, %.
        results: way to refine → `summary.csv` of the benchmark of its masks.
    """

    name: str
    steps: int
    seconds: float
    validation_dice: float
    results: Mapping[str, Path]


def page(
    pack: OrganPack,
    command: str,
    counts: Mapping[str, int],
    budget: Budget,
    seed: int,
    device: torch.device,
    trained: Sequence[Trained],
) -> str:
    """Return the page.

    Args:
        pack: the organ pack.
        command: that made it.
        counts: cases to "train", of "validation" and "test", and "scored" of the test part.
        budget: of each network.
        seed: of everything random.
        device: where it ran.
        trained: the networks, in their order.
    """
    summaries = summaries_of(trained)
    ways = list(trained[0].results)
    parts = [
        f"# The paper's networks, and what refinement makes of their masks: {pack.name}",
        _caption(pack, counts, budget, seed, device),
        f"```bash\n{command}\n```",
        "## Does refinement help each network?",
        *(_verdict(way, [summaries[one.name][way] for one in trained]) for way in ways),
        f"![Mean DSC and HD95 of each network's masks, and of the refined ones]({PLOT})",
        "*Means; lines lead from a network's masks to the refined ones, with the 95 % bootstrap interval of the "
        "difference over patients.*",
        "Mean before → after; in brackets the same interval.",
        *(_changes(way, {one.name: summaries[one.name][way] for one in trained}) for way in ways),
        "## All scores",
        f"Means over the test cases. NSD at {pack.nsd_tolerance_mm:g} mm. CD and EMD in diameters of the truth (shared "
        "normalisation). The largest component with filled holes is what most people use.",
        _scores({one.name: summaries[one.name] for one in trained}),
        "## How were they trained?",
        _trainings(trained),
    ]
    return "\n\n".join(parts) + "\n"


def summaries_of(trained: Sequence[Trained]) -> dict[str, dict[str, Summary]]:
    """Return network → way to refine → the scores of its masks, before and after."""
    return {one.name: {way: read_summary(file) for way, file in one.results.items()} for one in trained}


def _caption(pack: OrganPack, counts: Mapping[str, int], budget: Budget, seed: int, device: torch.device) -> str:
    bounds = [f"{budget.steps} batches"] if budget.steps else []
    clock = "minutes" if device.type == "cuda" else "minutes of processor time"
    bounds += [f"{budget.seconds / 60:g} {clock}"] if budget.seconds else []
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} processor"
    threads = "" if device.type == "cuda" else f", threads: {torch.get_num_threads()}"
    return (
        f"Each network learned from the same {counts['train']} images of the training part for at most "
        f"{' or '.join(bounds)} ({machine}{threads}; seed {seed}; torch {torch.__version__.partition('+')[0]}, bundle "
        f"{bundle_version()}). Scored: {counted(counts['scored'], 'case')} of the {counts['test']} of the test part, "
        "by which nothing was chosen. The networks are small and trained briefly, in 3D, from the descriptions in the "
        "papers: the tables compare masks with their refinement, and say little about how good these networks can be. "
        "What refines are the pack's own prior and, with the image, its voxel head and U-Net, which had more time to "
        "learn."
    )


def _verdict(way: str, summaries: Sequence[Summary]) -> str:
    said = []
    for metric, word in (("hd95_mm", "HD95"), ("dsc", "DSC")):
        changes = [one[PRESET, metric]["difference"] for one in summaries]
        counts = sum(c < 0 for c in changes), sum(c == 0 for c in changes), sum(c > 0 for c in changes)
        said.append(f"the mean {word} falls for {counts[0]}, stays for {counts[1]} and rises for {counts[2]}")
    sure = sum(one[PRESET, "hd95_mm"]["difference_high"] < 0 for one in summaries)
    return (
        f"**{way.capitalize()}:** of {counted(len(summaries), 'network')} {said[0]} (for {sure} of them the interval "
        f"of the difference lies below 0); {said[1]}."
    )


def _changes(way: str, summaries: Mapping[str, Summary]) -> str:
    body = []
    for name, summary in summaries.items():
        cells = []
        for metric in ("hd95_mm", "dsc"):
            digits = SCORES[metric][1]
            line = summary[PRESET, metric]
            before, after = summary[REFERENCE, metric]["mean"], line["mean"]
            ends = [line[f"difference_{end}"] for end in ("low", "high")]
            interval = "" if any(map(math.isnan, ends)) else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]"  # NaN of one patient
            cells.append(f"{before:.{digits}f} → {after:.{digits}f} ({line['difference']:+.2f}{interval})")
        lost = summary[PRESET, "dsc"]["harmed_percent"]
        body.append([name, *cells, f"{lost:.0f}"])
    return markdown_table((way, "HD95 mm", "DSC %", f"lose > {HARM_DSC:g} DSC, %"), body)


def _scores(summaries: Mapping[str, Mapping[str, Summary]]) -> str:
    body = []
    for name, by_way in summaries.items():
        own = next(iter(by_way.values()))
        rows = [("its masks", own, REFERENCE), (LARGEST, own, LARGEST)]
        rows += [(way, summary, PRESET) for way, summary in by_way.items()]
        for what, summary, method in rows:
            figures = [f"{summary[method, metric]['mean']:.{digits}f}" for metric, (_, digits) in SCORES.items()]
            body.append([name, what, *figures, f"{summary[method, 'dsc']['failed']:.0f}"])
    return markdown_table(("network", "masks", *(head for head, _ in SCORES.values()), "empty"), body)


def _trainings(trained: Sequence[Trained]) -> str:
    body = [[one.name, str(one.steps), f"{one.seconds / 60:.1f}", f"{one.validation_dice:.1f}"] for one in trained]
    return markdown_table(("network", "batches", "minutes", "validation DSC %"), body)
