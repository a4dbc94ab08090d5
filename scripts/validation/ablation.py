"""`python -m scripts ablate`: what each part of the method is worth: fits of priors trained without it, scored."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from ..cases.files import write_text
from ..cases.find import case_name, labels_folder
from ..cases.lock import FolderLock
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..evaluation.evaluate import evaluate
from ..evaluation.summary import read_summary
from ..organ.pack import ORGAN_FILE, OrganPack
from ..organ.yaml_file import read_yaml
from ..run.jobs import run_job
from ..simulation.simulate import CLEAN, write_simulated
from ..training.prior.job import Target, select_targets
from .ablation_page import FULL, MIXED, ablation_page

logger = logging.getLogger(__name__)

KINDS = (CLEAN, MIXED)  # of masks that are fitted
SETTINGS = "ablation.json"
ALL = "all"  # the variants
FIT_ALONE = {"fusion": False, "gate": False}  # the fit replaces the mask, so that nothing hides what it is worth


@dataclass(frozen=True)
class Variant:
    """A way to train and fit.

    Attributes:
        training: options of configs/train_prior.yaml.
        refine: settings of configs/presets.yaml; such a variant shares the prior of the whole method.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    refine: Mapping[str, Any] = field(default_factory=dict)


# Two terms stay: the distance, which is the field itself, and that of unknown distances, of which no sample has one.
# The full hyper-network learns at the paper's rate: at five times that, the others', its training diverges.
VARIANTS: dict[str, Variant] = {
    FULL: Variant(),
    "no hyper code": Variant({"hyper_code": False}),
    "no instance code": Variant({"instance_code": False}),
    "no code": Variant({"instance_code": False, "hyper_code": False}),
    "full hyper-network": Variant({"hyper": "full", "network_lr": 1e-4}),
    "codes from noise": Variant({"codes": "noise"}),
    "sine frequency 30": Variant({"omega": 30.0}),
    "no normals": Variant({"loss_weights": {"normal": 0.0}}),
    "no eikonal term": Variant({"loss_weights": {"eikonal": 0.0}}),
    "no template normals": Variant({"loss_weights": {"template_normal": 0.0}}),
    "no smooth flow": Variant({"loss_weights": {"flow_jacobian": 0.0}}),
    "no small correction": Variant({"loss_weights": {"correction": 0.0}}),
    "no code terms": Variant({"loss_weights": {"code": 0.0, "hyper_code": 0.0}}),
    "hard TIM 25 %": Variant(refine={"keep_share": 0.25}),
    "hard TIM 50 %": Variant(refine={"keep_share": 0.5}),
}


def ablate(
    dataset_dir: str,
    organ: str = "hippocampus",
    output_dir: str = "output/ablation",
    variants: str | Sequence[str] = ALL,
    label: str = "",
    shapes: int = 40,
    epochs: int = 8,
    cases: int = 10,
    seed: int = 0,
    device: str = "",
    processes: int = 2,
) -> str:
    """Train a prior without each part of the method, fit unseen shapes with it, and compare the fits.

    All variants learn from the same label maps of the training part for the same number of steps, and fit the same
    label maps of the validation part: as they are, and with simulated errors. The fit replaces the mask. A run that was
    stopped goes on where it was: what is trained or refined is not done again. A variant whose training fails has no
    scores, and the page says so.

    Args:
        dataset_dir: folder of label maps, or one with `labels/`.
        organ: name of the organ pack, or path of its folder; its split must have a training and a validation part.
        output_dir: receives packs/ (a pack with its prior a variant), simulated/, refined/, eval/ and ablation.md.
        variants: all, or some with commas between them, such as no code,hard TIM 25 % (see `VARIANTS`). Others can
            follow in a later run.
        label: a structure, where the pack has several priors.
        shapes: label maps to learn from, spread evenly over the training part.
        epochs: of 50 steps, of each training.
        cases: of the validation part, at most, spread evenly.
        seed: of weights, batches, errors and fits.
        device: cpu or cuda; empty for cuda where there is one.
        processes: cases prepared, refined or scored at once.

    Returns:
        The path of ablation.md.

    Raises:
        ValueError: an option makes no sense, the data set cannot be used, or the folder is of other options.
        SystemExit: the training of the whole method failed, or a case of a run.
    """
    if shapes < 2 or epochs < 1 or cases < 1:
        raise ValueError("ablate needs --shapes of at least 2, and --epochs and --cases of at least 1")
    chosen = choose_variants(variants)
    pack = OrganPack.load(organ)
    targets = select_targets(pack, label or None)
    if len(targets) > 1:
        names = ", ".join(target.structures[0].name for target in targets)
        raise ValueError(f"'{pack.name}' has {len(targets)} priors: give --label, one of {names}")
    if not pack.split.get("train") or not pack.split.get("validation"):
        raise ValueError(f"{pack.file}: ablate needs a split with cases under train and validation: add them")
    labels, out = labels_folder(dataset_dir), Path(output_dir).resolve()
    files = choose_labels(labels, pack, "validation", cases)
    sizes = {"shapes": shapes, "epochs": epochs, "cases": cases, "seed": seed}
    options = {"dataset_dir": dataset_dir, "organ": organ, "output_dir": output_dir}
    options |= {} if len(chosen) == len(VARIANTS) else {"variants": ",".join(chosen)}
    options |= ({"label": label} if label else {}) | {name: str(size) for name, size in sizes.items()}
    command = "python -m scripts ablate " + " ".join(f"--{k} {shlex.quote(v)}" for k, v in options.items())
    on: dict[str, Any] = {"workers": processes} | ({"device": device} if device else {})
    training: dict[str, Any] = {"dataset_dir": labels, "cache_dir": out / "samples", "seed": seed}
    training |= {"train_cases": shapes, "max_epochs": epochs}
    training |= {"validation_share": 0.0, "val_interval": 0, "min_dice": 0.0}
    with FolderLock(out):
        _refuse_other(out / SETTINGS, {"labels": str(labels.resolve()), "organ": organ, "label": label, **sizes})
        if not all(
            (out / "simulated" / kind / f"{case_name(file)}.nii.gz").is_file() for kind in KINDS for file in files
        ):
            write_simulated(files, LabelSource.of(pack), out / "simulated", KINDS, seed)
        fitted = []
        for name, variant in tqdm(chosen.items(), desc="variants", disable=None):
            folder = write_pack(pack, targets[0], out / "packs" / slug(name), variant.refine)
            if not variant.refine and not (folder / targets[0].prior.name).is_file():
                try:
                    run = out / "runs" / slug(name)
                    run_job("train_prior", organ=str(folder), run_dir=run, **training, **on, **variant.training)
                except SystemExit as error:
                    if name == FULL:  # the data are at fault
                        raise
                    logger.error("%s is left out: %s", name, error)
                    continue
            fitted.append(name)
            for kind in KINDS:
                masks, refined = out / "simulated" / kind, out / "refined" / kind / slug(name)
                run_job("refine", dataset_dir=masks, output_dir=refined, organ=str(folder), seed=seed, html=False, **on)
        summaries = {}
        for kind in KINDS:
            methods: dict[str, Any] = {name: str(out / "refined" / kind / slug(name)) for name in fitted}
            evaluate(
                str(labels),
                str(out / "packs" / slug(FULL)),
                str(out / "eval" / kind),
                postprocessing="none",
                reference=FULL,
                seed=seed,
                processes=processes,
                **methods,
            )
            summaries[kind] = read_summary(out / "eval" / kind / "summary.csv")
        changes = {name: words(variant) for name, variant in chosen.items()}
        write_text(out / "ablation.md", ablation_page(pack.name, command, sizes, len(files), changes, summaries))
    return str(out / "ablation.md")


def choose_variants(names: str | Sequence[str]) -> dict[str, Variant]:
    """Return the variants of these names, given as a list or with commas between them; always with the whole method.

    Raises:
        ValueError: one is unknown.
    """
    parts = names.split(",") if isinstance(names, str) else names
    chosen = {FULL, *(part.strip() for part in parts)}
    unknown = sorted(chosen - {*VARIANTS, ALL})
    if unknown:
        raise ValueError(f"unknown variants {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    return {name: variant for name, variant in VARIANTS.items() if name in chosen or ALL in chosen}


def slug(name: str) -> str:
    """Return a variant's name as that of a folder."""
    return "_".join("".join(c if c.isalnum() else " " for c in name).split())


def words(variant: Variant) -> str:
    """Return the options that make a variant, as one gives them."""
    trained = [f"--{key} {json.dumps(value)}" for key, value in variant.training.items()]
    return " ".join([*trained, *(f"{key}: {value}" for key, value in variant.refine.items())]).replace('"', "")


def write_pack(pack: OrganPack, target: Target, folder: Path, refine: Mapping[str, Any]) -> Path:
    """Write the pack of a variant and return its folder.

    It is the organ's own with one prior, the fit alone and no held-out part. With `refine`, settings of the fit, the
    prior is that of the whole method's pack beside it; else it is yet to be trained.
    """
    raw = {key: value for key, value in read_yaml(pack.file).items() if key != "default"}
    names = {structure.name for structure in target.structures}
    prior = f"../{slug(FULL)}/{target.prior.name}" if refine else target.prior.name
    raw["structures"] = [one | {"prior": prior} for one in raw["structures"] if one["name"] in names]
    raw["split"] = {"train": pack.split["train"]}
    raw["refine"] = {**raw.get("refine", {}), **FIT_ALONE, **refine}
    write_text(folder / ORGAN_FILE, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return folder


def _refuse_other(file: Path, options: Mapping[str, Any]) -> None:
    """Note what a run is of, or refuse the folder where that of an earlier one is another.

    Raises:
        ValueError: it is.
    """
    if not file.is_file():
        write_text(file, json.dumps(options, indent=1))
        return
    noted = json.loads(file.read_text(encoding="utf-8"))
    other = sorted(key for key in options if noted.get(key) != options[key])
    if other:
        raise ValueError(f"{file} was made with another {', '.join(other)}: give another --output_dir, or remove it")
