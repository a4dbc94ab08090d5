"""Commands that train a pack's joint model and evidence network from images and labels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...cases.files import whole_file
from ...cases.lock import FolderLock
from ...cases.split import training_files
from ...evidence.ensemble import EvidenceEnsemble
from ...evidence.network import EvidenceNet
from ...organ.pack import EVIDENCE_FILE, OrganPack
from ...prior.joint import JointShapeModel
from ..prior.joint import fit_joint
from .drafts import make_drafts
from .patches import Example
from .training import load_example, train_evidence

SPACING_MM = 3.0  # of the grids that the networks read


def evidence(
    dataset_dir: str,
    organ: str,
    cache_dir: str = "cache/evidence",
    steps: int = 2500,
    folds: int = 3,
    hold_out: int = -1,
    members: int = 2,
    output: str = "",
    seed: int = 0,
) -> str:
    """Train the evidence networks of an organ pack on drafts of its training split.

    Args:
        dataset_dir: folder with `images/` and `labels/` of NIfTI files of the same names.
        organ: organ pack, by name or path.
        cache_dir: where drafts, the folds' joint models and prepared examples are kept.
        steps: training steps.
        folds: folds of the cross-validation that makes the drafts.
        hold_out: a fold that is left out of training, for development; -1 trains on all.
        members: networks, trained one after another with seeds of their own; what they agree on counts.
        output: where the networks are written; by default into the pack.
        seed: of drafts, initialisation and sampling.

    Returns:
        Where the networks were written.
    """
    pack = OrganPack.load(organ)
    images, labels = Path(dataset_dir) / "images", Path(dataset_dir) / "labels"
    names = [file.name for file in training_files(pack, labels)]
    # what is kept there was made without the cases of a fold: other cases or folds must not find it
    cache = Path(cache_dir) / f"{pack.name}_{zlib.crc32(repr((names, folds, seed)).encode()):08x}"
    with FolderLock(cache):  # two trainings at once would spoil each other's files
        files = [images / n for n in names], [labels / n for n in names]
        make_drafts(*files, cache / "drafts", pack.intensity, folds, seed=seed)
        structures = [s.name for s in pack.structures]
        examples = []
        for fold in range(folds):
            own = [n for k, n in enumerate(names) if k % folds == fold]
            joint_file = cache / f"joint_without_fold{fold}.safetensors"
            if not joint_file.is_file():
                fit_joint([labels / n for n in names if n not in own], pack).save(joint_file)
            if fold == hold_out:
                continue
            model = JointShapeModel.load(joint_file)
            drafts = sorted((cache / "drafts").glob("step*"))[-2:]  # the earliest networks know next to nothing
            for name in tqdm(own, desc=f"examples of fold {fold + 1}/{folds}"):
                examples.append(_cached(cache / f"{name}.pt", name, images, labels, drafts, pack, model, SPACING_MM))
        networks, losses = [], []
        for member in range(members):
            torch.manual_seed(seed + member)
            networks.append(EvidenceNet(structures, SPACING_MM))
            losses.append(float(np.mean(train_evidence(examples, networks[-1], steps, seed=seed + member)[-50:])))
        card = {
            "organ": pack.name,
            "provenance": pack.provenance,
            "trained_on": [n for k, n in enumerate(names) if k % folds != hold_out],
            "steps": steps,
            "seed": seed,
            "final_losses": [round(loss, 4) for loss in losses],
        }
        target = Path(output) if output else pack.folder / EVIDENCE_FILE
        EvidenceEnsemble(networks, card).save(target)
        return f"{members} evidence networks, losses {card['final_losses']}: {target}"


def _cached(
    file: Path,
    name: str,
    images: Path,
    labels: Path,
    drafts: list[Path],
    pack: OrganPack,
    model: JointShapeModel,
    spacing_mm: float,
) -> Example:
    if file.is_file():
        stored = torch.load(file, weights_only=True)
        return Example(**stored)
    example = load_example(name, images, labels, drafts, pack, model, spacing_mm)
    with whole_file(file) as temporary:
        torch.save(vars(example), temporary)
    return example
