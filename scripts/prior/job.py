"""The steps of configs/train_prior.yaml around the trainer: which files and structure, and the prior that results."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import monai
import nibabel as nib
import numpy as np
import torch
import yaml

from ..organ import MODELS, OrganPack, Structure
from .check import held_out_dice, training_dice
from .field import DeformTemplateField
from .linear import LinearShapeModel
from .prior import ShapePrior, assemble_prior
from .samples import PreparedShapes, prepare
from .training import PriorTrainingNetwork

logger = logging.getLogger(__name__)


class PriorTrainingError(RuntimeError):
    """The trained prior does not describe its own training shapes."""


def list_label_files(dataset_dir: str | Path) -> list[Path]:
    """NIfTI label maps of a folder by name; of its subfolder `labels` where it has one.

    Raises:
        FileNotFoundError: there are none.
    """
    folder = Path(dataset_dir)
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    files = sorted(p for p in folder.glob("*") if p.name.endswith((".nii", ".nii.gz")) and not p.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no label maps (.nii or .nii.gz) in {folder}")
    return files


def load_or_create_pack(organ: str, dataset_dir: str | Path, n_scanned: int = 10) -> OrganPack:
    """The organ's pack; where it has none, a minimal one made from the label values of the first label maps."""
    folder = Path(organ) if os.sep in organ else MODELS / organ
    if (folder / "organ.yaml").is_file():
        return OrganPack.load(folder)
    values: set[int] = set()
    for file in list_label_files(dataset_dir)[:n_scanned]:
        try:
            values.update(int(v) for v in np.unique(np.asanyarray(nib.load(file).dataobj)) if v != 0)  # type: ignore[attr-defined]
        except (OSError, EOFError, nib.filebasedimages.ImageFileError) as error:
            logger.warning("cannot read %s: %s", file.name, error)
    if not values:
        raise ValueError(f"the label maps in {dataset_dir} hold no labels: cannot make an organ pack")
    name = folder.name
    names = {value: name if len(values) == 1 else f"{name}_{value}" for value in sorted(values)}
    settings = {
        "name": name,
        "description": f"Made from the labels found in {Path(dataset_dir).name}; edit the names and what else you know",
        "labels": names,
        "structures": [{"name": names[value], "labels": [value]} for value in sorted(values)],
        "provenance": {"dataset": "unknown", "source": "unknown", "licence": "unknown"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "organ.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    logger.warning("made a new organ pack: %s", folder / "organ.yaml")
    return OrganPack.load(folder)


def select_structure(pack: OrganPack, label: str | int | None) -> Structure:
    """The structure of that name or label value; None is right only where the pack has a single one.

    Raises:
        ValueError: no structure, or no single one, is meant.
    """
    names = [structure.name for structure in pack.structures]
    if label is None:
        matches = list(pack.structures)
    else:
        matches = [s for s in pack.structures if s.name == str(label) or str(label) in {str(v) for v in s.labels}]
    if len(matches) != 1:
        raise ValueError(f"--label must name one structure of '{pack.name}': {', '.join(names)} (given: {label})")
    return matches[0]


def split_files(pack: OrganPack, dataset_dir: str | Path) -> dict[str, list[Path]]:
    """Training and validation files: the pack's split where the folder holds its training files, else all files."""
    files = {file.name: file for file in list_label_files(dataset_dir)}
    train = [files[name] for name in pack.split.get("train", []) if name in files]
    if not train:
        return {"train": list(files.values()), "validation": []}
    missing = [name for name in pack.split["train"] if name not in files]
    if missing:
        logger.warning("training files of the split that are missing: %s", ", ".join(missing))
    return {"train": train, "validation": [files[n] for n in pack.split.get("validation", []) if n in files]}


def prepare_structure(
    pack: OrganPack, structure: Structure, dataset_dir: str | Path, cache_dir: str | Path, settings: Mapping[str, Any]
) -> PreparedShapes:
    """Samples of a structure's training and validation shapes, see `samples.prepare`."""
    files = split_files(pack, dataset_dir)
    return prepare(files["train"], structure.labels, cache_dir, dict(settings), files["validation"])


def start_field(field: DeformTemplateField, init: str | Path | None) -> DeformTemplateField:
    """The field, with the weights of an existing prior where one is given.

    Raises:
        ValueError: the prior's field is of another make.
    """
    if init is None:
        return field
    known = ShapePrior.load(init).field
    if known.settings != field.settings:
        raise ValueError(f"cannot start from {init}: its field is {known.settings}, this run's {field.settings}")
    field.load_state_dict(known.state_dict())
    return field


def finish(
    network: PriorTrainingNetwork,
    linear: LinearShapeModel,
    prepared: PreparedShapes,
    pack: OrganPack,
    structure: Structure,
    output_file: str | Path,
    training: Mapping[str, Any],
    linear_modes: int = 32,
    min_dice: float = 0.9,
    held_out_steps: int = 100,
) -> ShapePrior:
    """Check the trained field, derive the rest of the prior and write it.

    Args:
        network: trained network.
        linear: linear model of the training shapes; its first `linear_modes` modes are kept.
        prepared: the shapes.
        pack: organ pack, for names and provenance.
        structure: what was trained.
        output_file: where the prior goes.
        training: settings to note in the card.
        linear_modes: modes kept.
        min_dice: mean DSC of training shapes below which the run fails.
        held_out_steps: steps of the fit to held-out shapes.

    Raises:
        PriorTrainingError: the mean DSC of training shapes is below `min_dice`; nothing is written.
    """
    network.eval()
    own = training_dice(network.field, network.alpha.detach(), network.beta.detach(), prepared.train)
    mean = float(np.mean(list(own.values())))
    worst = min(own, key=lambda name: own[name])
    logger.info("training shapes: mean DSC %.4f, worst %.4f (%s)", mean, own[worst], worst)
    if not mean >= min_dice:
        raise PriorTrainingError(
            f"'{structure.name}' describes its own training shapes with a mean DSC of {mean:.3f}, below {min_dice}: "
            "the prior is not written. Train longer, widen the network, or look for mislabelled cases."
        )
    kept = LinearShapeModel(linear.mean, linear.modes[:linear_modes], linear.std[:linear_modes], linear.extent)
    kept = LinearShapeModel.from_state(kept.state())
    prior = assemble_prior(
        network.field.cpu(),
        network.alpha,
        network.beta,
        kept,
        kept.scores(prepared.grids),
        prepared.anchor_points,
        prepared.scale_mm,
        {},
    )
    held_out = held_out_dice(prior, prepared.validation, held_out_steps)
    if held_out:
        logger.info(
            "held-out shapes: mean DSC %.4f, worst %.4f", np.mean(list(held_out.values())), min(held_out.values())
        )
    prior.card = {
        "organ": pack.name,
        "structure": structure.name,
        "labels": list(structure.labels),
        "provenance": pack.provenance,
        "n_cases": sum(shape.original for shape in prepared.train),
        "n_shapes": len(prepared.train),
        "skipped": prepared.skipped,
        "anchor": prepared.anchor_name,
        "data_hash": prepared.data_hash,
        "samples": asdict(prepared.settings),
        "training": dict(training),
        "dice_training": {"mean": round(mean, 4), "min": round(own[worst], 4), "n": len(own)},
        "dice_held_out": {
            "mean": round(float(np.mean(list(held_out.values()))), 4) if held_out else None,
            "min": round(min(held_out.values()), 4) if held_out else None,
            "n": len(held_out),
        },
        "versions": {"torch": torch.__version__, "monai": monai.__version__, "numpy": np.__version__},
    }
    logger.info("wrote %s", prior.save(output_file))
    return prior
