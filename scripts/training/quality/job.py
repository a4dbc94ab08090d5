"""The command that trains the predictor of a mask's quality, and scores it on organs that it was not trained on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from ...cases.files import write_csv, write_text
from ...evaluation.tables import markdown_table
from ...organ.places import QUALITY_FILES
from ...quality.predictor import PROMISE, TARGETS, QualityNet, QualityPredictor
from ...quality.reader_rule import ReaderRule
from ...quality.verdict import STAGES
from .conformal import width
from .examples import Example, load_examples
from .training import train_net

FOLDS = 5  # of patients
POOR_DSC = 70.0  # what a user wants to be warned of
HEAD = ("set", "masks", "patients", "stage", "r", "MAE, {unit}", f"AUC, DSC < {POOR_DSC:g}", "in the interval, %")


@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        title: its heading.
        examples: masks.
        predictors: which predictor tells the quality of each; its widths for known organs hold.
    """

    title: str
    examples: Sequence[Example]
    predictors: Sequence[QualityPredictor]


def quality(
    runs: str, test_runs: str = "", output: str = "", page: str = "", seed: int = 0, image: bool = False
) -> str:
    """Train the predictor of DSC and HD95 on masks whose truth is known, and say how well it predicts.

    What is said of a mask comes from a predictor that was trained on other patients, or on other organs, alone.

    Args:
        runs: output folders of `python -m scripts benchmark` with the preset default, or folders of these; patterns
            such as 'runs/*' with commas between them. Their patients must have no part in the priors.
        test_runs: the same, of masks to be scored and not trained on.
        output: where the predictor is written; by default where every organ pack finds that of its kind.
        page: where a page with the scores is written, and a CSV file with all masks beside it; none by default.
        seed: of initialisation and order.
        image: of masks that were refined with an image, by what its readers say; otherwise by mask and fit alone.

    Returns:
        Where the predictor was written.

    Raises:
        ValueError: a pattern fits no benchmark, or all masks are of organs that one pack has.
    """
    told_by = "image" if image else "fit"
    known = load_examples(_listed(runs), told_by)
    unseen = load_examples(_listed(test_runs), told_by) if test_runs else []
    shipped, parts = _trained(known, unseen, seed, told_by)
    target = Path(output) if output else QUALITY_FILES[told_by]
    shipped.save(target)
    if page:
        options = {"runs": runs, "test_runs": test_runs, "seed": seed, "image": "true" if image else ""}
        command = " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items() if v != "")
        _write(Path(page), command, [part for part in parts if part.examples])
    return f"predictor of quality, {len(known)} masks of {shipped.card['patients']} patients: {target}"


def _trained(
    known: Sequence[Example], unseen: Sequence[Example], seed: int, told_by: str
) -> tuple[QualityPredictor, list[Part]]:
    """Train a predictor, and others without a part of the patients or organs, to see how well they predict.

    Raises:
        ValueError: all masks are of organs that one pack has.
    """
    others = _other_kinds(known, [*known, *unseen])
    alone = [organ for organ, kept in others.items() if not any(kept)]
    if alone:
        raise ValueError(
            f"masks of further organs are needed: without those of {alone[0]} there is nothing to learn from"
        )
    patients = [f"{e.organ} {e.patient}" for e in known]
    fold_of = {patient: str(n % FOLDS) for n, patient in enumerate(sorted({e.patient for e in known}))}
    folds = [fold_of[e.patient] for e in known]  # a patient may be in the data of two packs
    others_of = {fold: [own != fold for own in folds] for fold in set(folds)}
    by_organ = _leave_out(known, others, seed, told_by, "organs")
    by_fold = _leave_out(known, others_of, seed, told_by, "patients")
    widths = _widths(known, [by_organ[e.organ] for e in known], patients)
    own_widths = _widths(known, [by_fold[fold] for fold in folds], patients)
    card = {
        "masks": len(known),
        "patients": len({(e.organ, e.patient) for e in known}),
        "organs": sorted({example.organ for example in known}),
        "sets": sorted({e.group for e in known}),
        "seed": seed,
    }
    shipped = QualityPredictor(train(known, seed, told_by), widths, own_widths, card)
    stranger = {organ: QualityPredictor(net, widths, widths) for organ, net in by_organ.items()}
    fellow = {fold: QualityPredictor(net, own_widths, own_widths) for fold, net in by_fold.items()}
    return shipped, [
        Part("known organs, new patients", known, [fellow[fold] for fold in folds]),
        Part("unknown organs", known, [stranger[e.organ] for e in known]),
        Part("further masks, by the predictor itself", unseen, [shipped] * len(unseen)),
        Part("further masks, their organs unknown", unseen, [stranger[e.organ] for e in unseen]),
    ]


def train(examples: Sequence[Example], seed: int, told_by: str = "fit") -> QualityNet | ReaderRule:
    """Train a net on masks, of which those of a patient with many count less each, or fit the rule for images."""
    values = np.stack([e.features for e in examples])
    targets = np.array([e.targets for e in examples], np.float32)
    if told_by == "image":
        return ReaderRule.fitted(values, targets, [e.organ for e in examples])
    return train_net(values, targets, _weights(examples), seed)


def _other_kinds(examples: Sequence[Example], wanted: Sequence[Example]) -> dict[str, list[bool]]:
    """Organ pack of the wanted → which examples are of no organ that it has: packs share some."""
    kinds: dict[str, set[str]] = {}
    for e in wanted:
        kinds.setdefault(e.organ, set()).add(e.kind)
    return {organ: [e.kind not in own for e in examples] for organ, own in kinds.items()}


def _leave_out(
    examples: Sequence[Example], kept: Mapping[str, Sequence[bool]], seed: int, told_by: str, what: str
) -> dict[str, QualityNet | ReaderRule]:
    """Key → what was trained on those examples that are kept for it."""
    bar = tqdm(sorted(kept), desc=f"{what} left out", disable=None)
    return {key: train([e for e, own in zip(examples, kept[key], strict=True) if own], seed, told_by) for key in bar}


def _widths(
    examples: Sequence[Example], models: Sequence[QualityNet | ReaderRule], patients: Sequence[str]
) -> dict[str, float]:
    """Target → the width that holds the promised share, each mask predicted by its own model.

    Where images tell, organs count alike: one of them has most of the patients.
    """
    scores = []
    for example, model in zip(examples, models, strict=True):
        mean, spread = model.raw(example.features[None], example.organ)
        scores.append(np.abs(np.array(example.targets) - mean[0]) / spread[0])
    groups = [e.organ for e in examples] if isinstance(models[0], ReaderRule) else None
    return {target: width(np.array(scores)[:, n], patients, PROMISE, groups) for n, target in enumerate(TARGETS)}


def _weights(examples: Sequence[Example]) -> np.ndarray:
    """The root of a patient's number of masks: many masks of one patient tell less than as many of many."""
    counts: dict[tuple[str, str], int] = {}
    for e in examples:
        counts[e.organ, e.patient] = counts.get((e.organ, e.patient), 0) + 1
    return np.array([counts[e.organ, e.patient] ** -0.5 for e in examples])


def _write(page: Path, command: str, parts: Sequence[Part]) -> None:
    """Write the page, and a line a mask in a CSV file of the same name."""
    text = ["# How well is a mask's quality predicted?", "", f"`python -m scripts quality {command}`", ""]
    lines: list[dict[str, Any]] = []
    for part in parts:
        own = [_predicted(e, p, part.title) for e, p in zip(part.examples, part.predictors, strict=True)]
        lines += own
        for metric, name, unit in (("dsc", "DSC", "points"), ("hd95", "HD95", "mm")):
            head = [one.format(unit=unit) for one in HEAD]
            text += [f"## {name}: {part.title}", "", markdown_table(head, _table(own, metric)), ""]
    write_text(page, "\n".join(text))
    write_csv(page.with_suffix(".csv"), lines)


def _predicted(e: Example, predictor: QualityPredictor, title: str) -> dict[str, Any]:
    mean, spread = (part[0].astype(float) for part in predictor.raw(e.features[None], e.organ))
    found = predictor.read(mean, spread, e.radius_mm, predictor.own_widths)
    line: dict[str, Any] = {"sets": title, "set": e.group, "organ": e.organ, "patient": e.patient}
    line |= {"structure": e.structure, "stage": e.stage, "dsc": e.dsc, "hd95": e.hd95_mm}
    for metric, values in (("dsc", found.dsc), ("hd95", found.hd95_mm)):
        line |= {f"{metric}_{end}": value for end, value in zip(("predicted", "low", "high"), values, strict=True)}
    return line


def _table(lines: Sequence[Mapping[str, Any]], metric: str) -> list[list[str]]:
    """A row a stage of every set, of all sets of an organ, and of all."""
    rows = []
    groups = [(name, key) for key in ("set", "organ") for name in sorted({line[key] for line in lines})]
    for name, key in [*groups, ("", "set")]:
        for stage in STAGES:
            own = [line for line in lines if name in ("", line[key]) and line["stage"] == stage]
            title = name if key == "set" else f"all of {name}"
            if own:
                rows.append([title or "all", *_scores_of(own, metric, stage)])
    return rows


def _scores_of(own: Sequence[Mapping[str, Any]], metric: str, stage: str) -> list[str]:
    true, guess, low, high = (
        np.array([line[key] for line in own])
        for key in (metric, *(f"{metric}_{k}" for k in ("predicted", "low", "high")))
    )
    r = f"{np.corrcoef(true, guess)[0, 1]:.2f}" if len(own) > 2 else "–"
    poor = np.array([line["dsc"] < POOR_DSC for line in own])
    worst = guess if metric == "hd95" else -guess
    auc = "–"
    if 0 < poor.sum() < len(own):
        auc = f"{stats.mannwhitneyu(worst[poor], worst[~poor]).statistic / poor.sum() / (~poor).sum():.2f}"
    inside = f"{100 * float(((true >= low) & (true <= high)).mean()):.0f}"
    patients = len({(line["organ"], line["patient"]) for line in own})
    return [str(len(own)), str(patients), stage, r, f"{np.abs(true - guess).mean():.1f}", auc, inside]


def _listed(patterns: str) -> list[str]:
    return [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
