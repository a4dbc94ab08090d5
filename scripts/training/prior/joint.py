"""The command that trains the joint model of a pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ...cases.read import read_labels
from ...cases.split import training_files
from ...organ.pack import JOINT_FILE, OrganPack
from ...prior.joint import JointShapeModel


def joint(dataset_dir: str, organ: str) -> str:
    """Train the joint model of an organ pack's structures on its training split.

    Args:
        dataset_dir: folder with `labels/` of NIfTI label maps.
        organ: organ pack, by name or path.

    Returns:
        Where the model was written.
    """
    pack = OrganPack.load(organ)
    model = fit_joint(training_files(pack, Path(dataset_dir) / "labels"), pack)
    model.save(pack.folder / JOINT_FILE)
    return f"joint model of {', '.join(model.parts)} with {model.n_modes} modes: {pack.folder / JOINT_FILE}"


def fit_joint(files: Sequence[Path], pack: OrganPack) -> JointShapeModel:
    """Return the joint model of the structures that label maps hold."""
    cases = []
    for file in tqdm(files, desc="labels", disable=None):
        labels, affine = read_labels(file)
        masks = pack.masks(labels, affine)
        cases.append({key: (mask, affine) for key, mask in masks.items() if mask.any()})
    model = JointShapeModel.train(cases)
    model.card.update(organ=pack.name, provenance=pack.provenance, trained_on=[file.name for file in files])
    return model
