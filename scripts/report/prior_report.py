"""The report of a prior's training: `report.md` with figures, curves of loss and validation, and the learned shapes."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..cases.files import write_text
from ..geometry.affine import Similarity
from ..prior.level_set import zero_level
from ..prior.prior import ShapePrior, template_surface
from .pictures import Camera, draw_surface, write_png

Curve = Sequence[tuple[int, float]]
CURVES, SHAPES, REPORT = "curves.png", "shapes.png", "report.md"
LEAST_DSC = 0.1  # range of the axis of DSC

logger = logging.getLogger(__name__)


def write_report(
    folder: str | Path,
    prior: ShapePrior,
    curves: Mapping[str, Curve],
    organ: str = "",
    label_dir: str = "",
    split: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write the report of a training, and say what to run next.

    Args:
        folder: where `report.md`, `curves.png` and `shapes.png` go.
        prior: the trained prior, on the CPU, with its card.
        curves: name → (step, value); `loss/...` are weighted terms, `held_out/dsc` and `held_out/cd` the validation.
        organ: the organ pack as it was asked for, for the commands; "" for none.
        label_dir: folder of the label maps, likewise.
        split: part → file names that the pack names.

    Returns:
        The path of the report.
    """
    target = Path(folder) / REPORT
    draw_curves(target.with_name(CURVES), curves)
    draw_shapes(target.with_name(SHAPES), prior)
    steps = next_steps(organ, label_dir, split or {}) if organ else {}
    write_text(target, report_text(prior, curves, steps))
    for what, command in steps.items():
        logger.info("next, %s: %s", what, command)
    return target


def next_steps(organ: str, label_dir: str, split: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return what to do with a prior → the command for it, ready to be pasted but for folders in capitals.

    Limits are chosen on the pack's validation shapes and validated on its test shapes; a pack that names none of a part
    needs a folder of label maps that the prior has not seen.
    """
    pack = f"--organ {shlex.quote(organ)}"

    def unseen(part: str) -> str:
        return f"--label_dir {shlex.quote(label_dir)}" if split.get(part) else "--label_dir UNSEEN_LABELS/ --split ''"

    return {
        "refine masks": f"python -m scripts refine --dataset_dir MASKS/ {pack} --output_dir output/",
        "check the gate's limits": f"python -m scripts limits {pack} {unseen('validation')} --output_dir limits/",
        "see what it can do": f"python -m scripts validate {pack} {unseen('test')} --output_dir validation/",
    }


def report_text(prior: ShapePrior, curves: Mapping[str, Curve], steps: Mapping[str, str] | None = None) -> str:
    """The report as Markdown; `steps` are what to do next → the command for it."""
    card = prior.card
    training, unseen = card["dice_training"], card["held_out"]
    lines = [
        f"# Shape prior {card['organ']} / {card['structure']}",
        "",
        f"{card['n_cases']} cases, {card['n_shapes']} shapes with augmented copies, anchor {card['anchor']}, "
        f"one canonical unit is {prior.scale_mm:.1f} mm.",
        "",
        "| shapes | fitted | n | DSC mean | DSC worst | CD x1000 mean | CD x1000 worst |",
        "|---|---|---|---|---|---|---|",
        _row("training", "own codes", {**{f"dice_{key}": value for key, value in training.items()}, **training}),
        _row("held out", "codes only", unseen["codes"]),
        _row("held out", "codes, then deform weights", unseen["codes_and_weights"]),
        "",
        *_floor(unseen["cd_noise_floor"]),
        f"![Loss terms and validation]({CURVES})",
        "",
        f"![Template and mean shape]({SHAPES})",
        "",
    ]
    if curves.get("held_out/cd"):
        lines += ["## Validation during training", "", "| step | DSC | CD x1000 |", "|---|---|---|"]
        pairs = zip(curves["held_out/dsc"], curves["held_out/cd"], strict=True)
        lines += [f"| {step} | {dsc:.4f} | {cd:.3f} |" for (step, dsc), (_, cd) in pairs]
        lines.append("")
    for title, cases in (("Not used", card["skipped"]), ("Cut by the field of view, used where seen", card["cut"])):
        if cases:
            lines += [f"## {title}", ""]
            lines += [f"- {name}: {_reason(why)}" for name, why in cases.items()] + [""]
    if steps:
        lines += ["## What next?", "", "```bash"]
        lines += [line for what, command in steps.items() for line in (f"# {what}", command)] + ["```", ""]
    return "\n".join(lines)


def _floor(value: float | None) -> list[str]:
    return [] if value is None else [f"Two samplings of one and the same shape have a CD x1000 of {value:.3f}.", ""]


def _reason(why: Any) -> str:
    return why if isinstance(why, str) else f"{why:.1%} of its surface on the border"


def _row(shapes: str, fitted: str, figures: Mapping[str, Any]) -> str:
    values = [figures.get(key) for key in ("dice_mean", "dice_min", "cd_mean", "cd_max")]
    cells = ["–" if value is None else f"{value:.4f}" for value in values]
    return f"| {shapes} | {fitted} | {figures['n']} | " + " | ".join(cells) + " |"


def draw_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Draw the loss terms and the validation over the steps into a PNG."""
    figure = curves_figure(curves)
    FigureCanvasAgg(figure)
    write_png(path, figure, 110)


def curves_figure(curves: Mapping[str, Curve]) -> Figure:
    """Return the picture of loss terms and validation, with legends beside the axes.

    CD is drawn from zero, and DSC over a range of at least `LEAST_DSC`, so that a run that hovers looks like one.
    """
    figure = Figure(figsize=(12, 4), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curve in curves.items():
        if name.startswith("loss/"):
            steps, values = np.array(curve, dtype=float).T
            term = name.removeprefix("loss/")
            left.plot(steps, values, label=term, linewidth=2.2 if term == "total" else 1.2)
    left.set(xlabel="step", ylabel="weighted loss", yscale="log", title="Training")
    left.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    right.set(xlabel="step", ylabel="CD x1000", title="Held-out shapes, codes fitted")
    if curves.get("held_out/cd"):
        other = right.twinx()
        for axes, name, colour in ((right, "cd", "tab:red"), (other, "dsc", "tab:blue")):
            steps, values = np.array(curves[f"held_out/{name}"], dtype=float).T
            axes.plot(steps, values, color=colour, marker="o", markersize=3)
            axes.tick_params(axis="y", colors=colour)
            axes.yaxis.label.set_color(colour)
        right.set_ylim(bottom=0.0)
        low, high = other.get_ylim()
        middle, half = (low + high) / 2, max(high - low, LEAST_DSC) / 2
        top = min(middle + half, max(1.0, high))
        other.set(ylim=(top - 2 * half, top), ylabel="DSC")
    else:
        right.text(0.5, 0.5, "no held-out shapes", ha="center", va="center", transform=right.transAxes)
    return figure


def draw_shapes(path: Path, prior: ShapePrior) -> None:
    """Draw template and mean shape in mm of the anchor, each coloured by its distance from the other, into a PNG."""
    to_mm = Similarity(prior.scale_mm, np.eye(3), np.zeros(3))
    shapes = {"template": template_surface(prior.field), "mean shape": mean_shape(prior)}
    meshes = {name: trimesh.Trimesh(to_mm.apply(m.vertices), m.faces, process=False) for name, m in shapes.items()}
    figure = Figure(figsize=(9, 4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    camera = Camera.facing(meshes["mean shape"])
    limit_mm = 0.05 * prior.scale_mm
    for axes, (name, mesh) in zip(figure.subplots(1, 2), meshes.items(), strict=True):
        reference = meshes["mean shape" if name == "template" else "template"]
        draw_surface(axes, mesh, reference, camera, limit_mm)
        axes.autoscale_view()
        axes.set_title(name)
    figure.suptitle(f"red: outside of the other, blue: inside; full colour at {limit_mm:.1f} mm", fontsize=9)
    write_png(path, figure, 110)


def mean_shape(prior: ShapePrior) -> trimesh.Trimesh:
    """The surface (canonical) of the instance with the mean training code.

    Raises:
        ValueError: it has none.
    """
    alpha, beta = prior.split_codes(prior.code_mean[None])
    with torch.no_grad():
        weights = prior.field.weights(beta)
    return zero_level(lambda points: prior.field.sdf(weights, alpha, points))
