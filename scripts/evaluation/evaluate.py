"""Score folders of label maps against the truth, and compare methods case by case."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..cases.files import write_csv, write_text
from ..cases.sources import LabelSource
from ..cases.split import split_patients
from ..metrics.statistics import RESAMPLES, summarise
from ..organ.pack import OrganPack, Structure
from ..report.words import counted
from ..run.errors import plainly
from ..run.options import is_true
from .elsewhere import elsewhere_notes, refuse_other_organs
from .notes import largest_notes, notes_of, unusable_note
from .pairing import STAGE_MARK, Pairing, ScoredCase, pair_methods
from .plots import write_plots
from .postprocess import POSTPROCESSING
from .scored_before import Rows, ScoredBefore
from .scoring import REFERENCE, Scoring, try_to_score
from .tables import console_report, latex_report, markdown_report

logger = logging.getLogger(__name__)

NSD_CURVE_MM = (1.0, 2.0, 3.0, 5.0)


def evaluate(
    label_dir: str,
    organ: str,
    output_dir: str = "eval",
    split: str = "",
    postprocessing: str = "fill",
    reference: str = REFERENCE,
    allow_missing: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    processes: int = 2,
    shape_metrics: bool = True,
    source: str = "",
    label_source: str = "",
    resample_labels: bool = False,
    missing_as_failures: bool = False,
    pred_dir: str = "",
    overwrite: bool = False,
    **methods: str,
) -> str:
    """Score one or more methods' label maps of an organ against the truth and write the tables.

    Every further option names a method and its folder: --initial masks --refined output --paper output_paper.
    A folder is flat (NIfTI files named like the labels, or with a suffix after a '_'), or a run's output folder with
    <case>/<case>_refined.nii.gz; 'folder::stage' picks another stage than refined (for --initial: initial).

    Args:
        label_dir: folder of true label maps.
        organ: name of the organ pack, or path of its folder; it gives structures, labels and the NSD tolerance.
        output_dir: where metrics.csv, summary.csv, table.md and table.tex are written, and the plots boxes and paired,
            each as .png and .svg.
        split: score only the organ pack's cases of this split, such as test; empty for all that have predictions.
        postprocessing: baselines computed from the reference's masks: none, fill (largest component and hole filling)
            or smooth (that, and also with smoothing).
        reference: the method that all others are compared with.
        allow_missing: leave out, and list, the cases that some method lacks, instead of stopping.
        resamples: draws of the bootstrap over patients.
        seed: of the bootstrap.
        processes: cases scored at once.
        shape_metrics: false leaves out CD, EMD and point-to-surface distance, which take most of the time.
        source: whose labels the methods' masks have, one of the organ pack's sources, where no names tell.
        label_source: the same of the true label maps.
        resample_labels: true for labels on another grid than the masks, such as that of a finer image: they are brought
            to the masks' grid by the nearest voxel.
        missing_as_failures: true scores labels without a prediction, and cases that failed in a run, as empty masks.
        pred_dir: in place of methods, the output folder of `refine` or `segment`, whose initial and refined masks are
            compared, or one folder of label maps.
        overwrite: true scores also the cases that were scored before, from the same files in the same way.
        **methods: method → folder.

    A case with a file that cannot be read, holds no labels or lies on another grid is named and left out; the tables
    are made from the others.

    Returns:
        The path of table.md.

    Raises:
        ValueError: an option makes no sense, files do not pair, or no case can be scored.
        SystemExit: with the exit code 1, after all is written: a case was left out, and table.md names it.
    """
    methods = (methods_of(pred_dir) if pred_dir else {}) | methods
    pack = OrganPack.load(organ)
    patients = split_patients(pack, split)
    chosen = {"none": 0, "fill": 1, "smooth": 2}
    if postprocessing not in chosen:
        raise ValueError(f"postprocessing must be one of {list(chosen)}, not {postprocessing!r}")
    baselines = dict(list(POSTPROCESSING.items())[: chosen[postprocessing]])
    table, left_out = score_folders(
        label_dir,
        methods,
        Scoring(
            structures=_known_to_both(pack, source, label_source),
            nsd_tolerance_mm=pack.nsd_tolerance_mm,
            nsd_curve_mm=NSD_CURVE_MM,
            postprocessing=baselines if reference in methods else {},
            reference=reference,
            shape_metrics=is_true(shape_metrics),
            predicted=LabelSource.of(pack, source),
            true=LabelSource.of(pack, label_source),
            resample_labels=is_true(resample_labels),
        ),
        output_dir,
        patients=patients,
        title=f"Evaluation: {pack.name}" + (f", {split} split" if split else ""),
        allow_missing=allow_missing,
        resamples=resamples,
        seed=seed,
        processes=processes,
        missing_as_failures=is_true(missing_as_failures),
        talk=True,
        overwrite=is_true(overwrite),
    )
    if left_out:
        print(table)
        raise SystemExit(1)
    return str(table)


def _known_to_both(pack: OrganPack, *sources: str) -> list[Structure]:
    """Return the structures that have a label in each of the sources named, and say which have none."""
    meant = [set(pack.sources[name].values()) for name in sources if name in pack.sources]
    known = [s for s in pack.structures if all(labels & set(s.labels) for labels in meant)]
    if len(known) < len(pack.structures):
        left_out = ", ".join(s.name for s in pack.structures if s not in known)
        logger.warning("not scored, since --source or --label_source has no such label: %s", left_out)
    return known


def methods_of(pred_dir: str) -> dict[str, str]:
    """Return method → folder of a folder: the stages of a run's output, or else the method "prediction"."""
    stages = [stage for stage in ("initial", "refined") if any(Path(pred_dir).glob(f"*/*_{stage}.nii*"))]
    return {stage: f"{pred_dir}{STAGE_MARK}{stage}" for stage in stages} or {"prediction": str(pred_dir)}


def evaluate_run(
    pred_dir: str,
    label_dir: str,
    organ: str,
    output_dir: str = "eval",
    split: str = "",
    shape_metrics: bool = True,
    processes: int = 2,
    source: str = "",
    label_source: str = "",
    resample_labels: bool = False,
    missing_as_failures: bool = False,
    overwrite: bool = False,
) -> None:
    """Score one folder of results, for `configs/evaluate.yaml`, and print where the tables are.

    Args:
        pred_dir: the output folder of `inference` or `refine`, of which the stages initial and refined are scored, or
            a flat folder of label maps, which becomes the method "prediction".
        label_dir: see `evaluate`, as the others.
        organ: see there.
        output_dir: see there.
        split: see there.
        shape_metrics: see there.
        processes: see there.
        source: see there.
        label_source: see there.
        resample_labels: see there.
        missing_as_failures: see there.
        overwrite: see there.

    Raises:
        SystemExit: with a plain message where `evaluate` would raise; with the exit code 1 where it left out a case.
    """
    methods: dict[str, Any] = methods_of(pred_dir)
    options: dict[str, Any] = {"shape_metrics": shape_metrics, "processes": processes}
    options |= {"source": source, "label_source": label_source, "resample_labels": resample_labels}
    options |= {"missing_as_failures": missing_as_failures, "overwrite": overwrite}
    print(plainly(lambda: evaluate(label_dir, organ, output_dir, split, **options, **methods)))


def score_folders(
    label_dir: str | Path,
    methods: Mapping[str, str | Path],
    scoring: Scoring,
    out_dir: str | Path,
    patients: Sequence[str] | None = None,
    title: str = "Evaluation",
    allow_missing: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    processes: int = 2,
    missing_as_failures: bool = False,
    talk: bool = False,
    overwrite: bool = False,
) -> tuple[Path, int]:
    """Score folders of label maps and write `metrics.csv`, `summary.csv`, `table.md`, `table.tex` and the plots.

    Args:
        label_dir: folder of true label maps.
        methods: method → folder (see `metrics.pairing.find_predictions`).
        scoring: structures, tolerances, policy, baselines.
        out_dir: where to write.
        patients: names of the labels to score; None for all that have predictions.
        title: heading of `table.md`.
        allow_missing: leave out cases that some method lacks.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
        processes: cases scored at once; 1 works in this process.
        missing_as_failures: score a missing prediction as an empty mask.
        talk: print the main table.
        overwrite: score also what an earlier evaluation in `out_dir` has scored.

    Returns:
        The path of `table.md`, and how many cases were left out since a file of theirs cannot be scored.

    Raises:
        ValueError: no method is given, names collide, files do not pair, no case can be scored, or masks are plainly
            another organ's.
    """
    if not methods:
        raise ValueError("no method given: name at least one with its folder, such as --initial FOLDER")
    if scoring.postprocessing and scoring.reference not in methods:
        raise ValueError(f"the post-processing baselines need the method '{scoring.reference}'")
    if not scoring.structures:
        raise ValueError("no structure to score")
    collisions = sorted(set(methods) & set(scoring.postprocessing))
    if collisions:
        raise ValueError(f"methods named like a computed baseline: {collisions}; rename them")
    pairing = pair_methods(
        label_dir,
        methods,
        patients,
        allow_missing,
        scoring.predicted,
        scoring.true,
        scoring.resample_labels,
        missing_as_failures,
    )
    before = ScoredBefore(Path(out_dir), scoring, overwrite)
    scored = _score_cases(pairing, scoring, processes, before)
    rows = [row for _, own in scored for row in own]
    for case, reason in pairing.unusable.items():
        logger.error("%s is not scored: %s", case, reason)
    try:
        refuse_other_organs(rows, methods, label_dir)
    except ValueError:
        before.forget()
        raise
    before.keep(scored)
    summary = summarise(rows, scoring.reference, resamples, seed)
    notes = notes_of(pairing, scoring, resamples)
    notes += unusable_note(pairing, [label_dir, *methods.values()]) + elsewhere_notes(rows)
    notes += largest_notes(rows, [name for name in methods if name != scoring.reference])
    table = markdown_report(title, notes, rows, summary, scoring.nsd_tolerance_mm, scoring.reference)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "metrics.csv", rows)
    write_csv(folder / "summary.csv", summary)
    write_text(folder / "table.md", table)
    write_text(folder / "table.tex", latex_report(summary, scoring.nsd_tolerance_mm))
    write_plots(folder, rows)
    if talk:
        said = [note for note in notes if note.startswith(("Scored", "Not scored", "Labels", "Predictions", "Look"))]
        print(console_report(said, summary, scoring.nsd_tolerance_mm))
    return folder / "table.md", len(pairing.unusable)


def _score_cases(
    pairing: Pairing, scoring: Scoring, processes: int, before: ScoredBefore
) -> list[tuple[ScoredCase, Rows]]:
    """Return all cases that can be scored with their rows; the others are left out of the pairing, with the reason."""
    known = {case.case: before.of(case) for case in pairing.cases}
    todo = [case for case in pairing.cases if known[case.case] is None]
    if len(todo) < len(known):
        logger.info(
            f"{counted(len(known) - len(todo), 'case')} scored before, skipped; --overwrite true scores them again"
        )
    work = partial(try_to_score, scoring=scoring)
    reasons = {}
    with ExitStack() as stack:
        results: Iterable[Rows | str] = map(work, todo)
        if processes > 1 and len(todo) > 1:
            context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
            pool = ProcessPoolExecutor(min(processes, len(todo)), context, torch.set_num_threads, (1,))
            results = stack.enter_context(pool).map(work, todo)
        bar = tqdm(results, total=len(todo), desc="score", unit="case", disable=None)
        for case, result in zip(todo, bar, strict=True):
            if isinstance(result, str):
                reasons[case.case] = result
            else:
                known[case.case] = result
                before.add(case, result)
    scored = [(case, rows) for case in pairing.cases if (rows := known[case.case]) is not None]
    if reasons:
        pairing.leave_out(reasons)
    return scored
