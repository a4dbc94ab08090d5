"""`python -m scripts validate`: is a prior good enough, and does the refinement repair errors and leave the rest?"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..cases.files import write_csv, write_text
from ..cases.find import case_name
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..cases.write import write_label_map
from ..evaluation.evaluate import REFERENCE, Scoring, score_folders
from ..evaluation.postprocess import LARGEST, POSTPROCESSING
from ..metrics.statistics import RESAMPLES, summarise
from ..organ.pack import EVIDENCE_FILE, OWN_SOURCE
from ..report.run_report import KEPT
from ..run.jobs import run_job
from ..run.request import Request
from ..simulation.simulate import choose_kinds, read_truth, write_simulated
from .ceiling import score_ceiling
from .page import validation_page

REFINED = "refined"


def validate(
    organ: str,
    label_dir: str,
    output_dir: str,
    split: str = "test",
    cases: int = 0,
    kinds: str | Sequence[str] = "",
    severity: float = 1.0,
    seed: int = 0,
    device: str = "",
    resamples: int = RESAMPLES,
    processes: int = 2,
    label_source: str = "",
    image_dir: str = "",
) -> str:
    """Validate an organ pack's priors, and the refinement with them, on true shapes that they have not seen.

    First the ceiling: every structure's prior is fitted to its true surface, by codes alone and by codes and deform
    weights, and the fitted mask scored. Then the refinement: the label maps are damaged in several ways (see
    `python -m scripts simulate --help`), refined by configs/refine.yaml with its default preset, with images where
    there are such, and scored before and after, beside the largest component with filled holes. Of each label map only
    that part is used in which errors may lie: large images take no longer than the organ's surroundings.

    Args:
        organ: name of the organ pack, or path of its folder.
        label_dir: folder of true label maps.
        output_dir: validate.md, ceiling.csv, refinement.csv; true/; simulated/, refined/ and scores/ with a folder a
            kind.
        split: the pack's split to take the cases from; empty for all of the folder, which must then be unseen.
        cases: at most so many, spread evenly over their names; 0 for all.
        kinds: which kinds of errors, such as missing,islands; empty for all.
        severity: factor of the errors' sizes.
        seed: of errors, fits and bootstrap.
        device: cpu or cuda; empty for cuda where there is one.
        resamples: draws of the bootstrap over cases.
        processes: cases scored at once.
        label_source: whose labels the label maps have, one of the organ pack's sources, where no names tell.
        image_dir: images, named like the label maps, of which neither the pack's voxel head nor its U-Net has learned;
            without them the masks are refined alone.

    Returns:
        The path of validate.md.

    Raises:
        ValueError: an option makes no sense, or the split's label maps are not in the folder.
        CaseError: a label map cannot be used.
        SystemExit: the pack lacks a prior, or a case failed.
    """
    pack = Request.of(organ).require().pack
    if image_dir and not (pack.folder / EVIDENCE_FILE).is_file():
        raise ValueError(f"organ '{pack.name}' has no voxel head that could read {image_dir}: leave out image_dir")
    evidence = {"image_dir": Path(image_dir).resolve()} if image_dir else {}
    chosen = choose_kinds(kinds)
    files = choose_labels(label_dir, pack, split, cases)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)

    true = out / "true"
    if Path(label_dir).resolve() == true.resolve():
        raise ValueError(f"{true} is written anew: give another output_dir")
    shutil.rmtree(true, ignore_errors=True)
    files = _write_truths(files, LabelSource.of(pack, label_source), true)
    labels = LabelSource.of(pack, OWN_SOURCE)
    rows, failures = score_ceiling(files, labels, device, seed)
    write_csv(out / "ceiling.csv", rows)
    for kind in chosen:  # what an earlier validation left there would be refined again
        for folder in (out / "simulated" / kind, out / "refined" / kind):
            shutil.rmtree(folder, ignore_errors=True)
    write_simulated(files, labels, out / "simulated", chosen, seed, severity)
    changes: list[dict[str, Any]] = []
    unrefined: list[str] = []
    for kind in chosen:
        masks, refined = out / "simulated" / kind, out / "refined" / kind
        where = {"dataset_dir": masks, "output_dir": refined, **evidence}
        run_job("refine", organ=organ, seed=seed, device=device, html=False, **where)
        unrefined += [f"{kind}, {line}" for line in _kept(refined / "report.json")]
        score_folders(
            true,
            {REFERENCE: masks, REFINED: refined},
            Scoring(
                pack.structures,
                pack.nsd_tolerance_mm,
                postprocessing={LARGEST: POSTPROCESSING[LARGEST]},
                true=labels,
            ),
            out / "scores" / kind,
            patients=[case_name(file) for file in files],
            title=f"{pack.name}: simulated errors, {kind}",
            resamples=resamples,
            seed=seed,
            processes=processes,
        )
        changes += [{"kind": kind, **line} for line in _read_csv(out / "scores" / kind / "summary.csv")]
    write_csv(out / "refinement.csv", changes)
    options = {"organ": organ, "label_dir": label_dir, "output_dir": output_dir, "split": split, "cases": cases}
    options |= {"kinds": ",".join(chosen), "severity": severity, "seed": seed}
    options |= {"label_source": label_source} if label_source else {}
    options |= {"image_dir": image_dir} if image_dir else {}
    command = "python -m scripts validate " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    trained = {case_name(name) for name in pack.split.get("train", [])}
    page = validation_page(
        pack,
        command,
        [case_name(file) for file in files],
        seen=sorted(trained & {case_name(file) for file in files}),
        ceiling=summarise(rows, resamples=resamples, seed=seed),
        failures=failures,
        changes=changes,
        unrefined=unrefined,
        with_images=bool(image_dir),
    )
    write_text(out / "validate.md", page)
    return str(out / "validate.md")


def _write_truths(files: Sequence[Path], labels: LabelSource, out_dir: Path) -> list[Path]:
    """Write that part of each label map in which errors may lie, with the pack's values; return their paths."""
    out_dir.mkdir(parents=True)
    written = []
    for file in tqdm(files, desc="labels", unit="case", disable=None):
        truth, _, box = read_truth(file, labels)
        written.append(out_dir / f"{case_name(file)}.nii.gz")
        write_label_map(written[-1], truth, file, extensions=False, box=box)
    return written


def _kept(report: Path) -> list[str]:
    """Return a line on every case, or structure, of a run that could not be refined."""
    lines = []
    for case in json.loads(report.read_text(encoding="utf-8"))["cases"]:
        reasons = [case["reason"]] if case["status"] == KEPT else case["warnings"]
        lines += [f"{case['case']}: {reason}" for reason in reasons]
    return lines


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
