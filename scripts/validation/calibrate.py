"""`python -m scripts calibrate`: intervals of the predicted quality that hold for a user's own masks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..cases.digest import hash_of
from ..cases.find import case_name, list_masks
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..evaluation.benchmark import benchmark
from ..organ.pack import OrganPack
from ..organ.places import CALIBRATION_FILES, EVIDENCE_FILE, QUALITY_FILES
from ..quality.calibration import Calibration
from ..quality.predictor import PROMISE, TARGETS, QualityPredictor
from ..simulation.simulate import choose_kinds, write_simulated
from ..training.quality.conformal import least_patients, width
from ..training.quality.examples import Example, load_examples

RUNS = "benchmark"
SIMULATED = "simulated"


def calibrate(
    organ: str,
    label_dir: str,
    mask_dir: str = "",
    image_dir: str = "",
    output_dir: str = "output/calibration",
    cases: int = 0,
    kinds: str | Sequence[str] = "",
    device: str = "",
    seed: int = 0,
    processes: int = 2,
    source: str = "",
    label_source: str = "",
) -> str:
    """Fit the intervals of an organ's predicted DSC and HD95 to cases of one's own, by conformal prediction.

    The masks are refined and scored; how far their true scores lie from the predicted ones says how wide the interval
    must be that holds 90 % of new patients' masks made in the same way. It is kept in the organ pack, and used from
    then on. Every patient counts once; where there are too few to promise that, nothing is written.

    Args:
        organ: name of the organ pack, or path of its folder, which receives calibration.json, or with
            image_dir calibration_with_image.json, for what is refined with images.
        label_dir: folder of true label maps that had no part in the prior.
        mask_dir: masks of the model whose quality shall be predicted, named like the labels, or several networks'
            folders, see `python -m scripts benchmark --help`; without it the labels are damaged, which says less.
        image_dir: images, where the masks will be refined with these.
        output_dir: receives the runs and their scores.
        cases: without mask_dir at most so many, spread evenly over their names; 0 for all.
        kinds: without mask_dir which kinds of errors, see `python -m scripts simulate --help`; empty for all.
        device: cpu or cuda; empty for cuda where there is one.
        seed: of refinement and errors.
        processes: cases scored at once.
        source: whose labels the masks have, one of the organ pack's sources, where no names tell.
        label_source: the same of the true label maps.

    Returns:
        How wide the intervals have become, and what stands behind them.

    Raises:
        ValueError: there are too few patients, or cases that the prior was trained on; or there is no predictor.
        SystemExit: a case of a run failed.
    """
    pack = OrganPack.load(organ)
    told_by = _told_by(pack, image_dir)
    predictor = QualityPredictor.load(QUALITY_FILES[told_by])
    files = list_masks(label_dir) if mask_dir else choose_labels(label_dir, pack, "", cases)
    trained = {case_name(name) for name in pack.split.get("train", [])}
    seen = sorted(case_name(file) for file in files if case_name(file) in trained)
    if seen:
        raise ValueError(
            f"the prior of '{pack.name}' was trained on {', '.join(seen[:3])}"
            f"{f' and {len(seen) - 3} more' if len(seen) > 3 else ''}: give label maps that it has not seen"
        )
    if len(files) < least_patients(PROMISE):
        raise ValueError(
            f"{len(files)} label maps in {label_dir}: an interval that holds {100 * PROMISE:g} % of new masks takes at "
            f"least {least_patients(PROMISE)} patients"
        )
    out = Path(output_dir)
    shutil.rmtree(out / RUNS, ignore_errors=True)
    made_of = f"masks of {mask_dir}"
    if not mask_dir:
        shutil.rmtree(out / SIMULATED, ignore_errors=True)
        chosen = choose_kinds(kinds)
        write_simulated(files, LabelSource.of(pack, label_source), out / SIMULATED, chosen, seed)
        mask_dir, made_of = str(out / SIMULATED), f"label maps with simulated errors ({', '.join(chosen)})"
    benchmark(
        organ,
        label_dir,
        mask_dir,
        image_dir,
        output_dir=str(out / RUNS),
        presets="default",
        device=device,
        seed=seed,
        processes=processes,
        shape_metrics=False,
        source=source,
        label_source=label_source,
    )
    try:
        examples = load_examples([str(out / RUNS)], told_by)
    except ValueError:
        raise ValueError(f"nothing can be predicted of these masks, see the report in {out / RUNS}") from None
    found = calibration_of(examples, predictor, made_of)
    readers = hash_of((), pack.readers) if told_by == "image" else ""
    found = replace(found, predictor=hash_of((), [QUALITY_FILES[told_by]]), readers=readers)
    file = pack.folder / CALIBRATION_FILES[told_by]
    found.save(file)
    wider = ", ".join(
        f"{name} {found.widths[target] / predictor.widths_for(pack.name)[target]:.2f}"
        for target, name in zip(TARGETS, ("DSC", "HD95"), strict=True)
    )
    return (
        f"{file}: intervals of {100 * PROMISE:g} % from {found.masks} masks of {found.patients} patients; as wide "
        f"as the bundle's own, times: {wider}"
    )


def _told_by(pack: OrganPack, image_dir: str) -> str:
    """Return what the masks' quality will be predicted from, see `quality.features`."""
    reads = image_dir and (pack.folder / EVIDENCE_FILE).is_file() and QUALITY_FILES["image"].is_file()
    return "image" if reads else "fit"


def calibration_of(examples: Sequence[Example], predictor: QualityPredictor, made_of: str) -> Calibration:
    """Return the intervals that hold for known masks, initial and refined.

    Args:
        examples: the masks.
        predictor: whose intervals they are.
        made_of: whose masks these are, in words.

    Raises:
        ValueError: there are too few patients.
    """
    mean, spread = predictor.raw(np.stack([example.features for example in examples]), examples[0].organ)
    scores = np.abs(np.array([example.targets for example in examples]) - mean) / spread
    patients = [example.patient for example in examples]
    widths = {target: width(scores[:, n], patients, PROMISE) for n, target in enumerate(TARGETS)}
    return Calibration(widths, len(set(patients)), len(examples) // 2, made_of)
