"""`python -m scripts out_of_fold`: networks' masks of an organ's training cases, none by a network that learned it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.files import write_csv
from ..cases.find import case_name
from ..cases.lock import FolderLock
from ..cases.read import read_labels
from ..cases.split import evenly_spaced, fold_of_each, part_names
from ..geometry.resample import WorldGrid, resample
from ..organ.pack import OrganPack
from ..unet.images import require_data, training_pairs
from .data import Pair, classes_of
from .masks import mask_file, setup_of, train_and_segment
from .networks import ALL, choose_networks

DSC = "dsc %"

logger = logging.getLogger(__name__)


def out_of_fold(
    dataset_dir: str,
    organ: str = "hippocampus",
    output_dir: str = "output/out_of_fold",
    networks: str | Sequence[str] = ALL,
    folds: int = 3,
    minutes: float = 1.0,
    steps: int = 0,
    cases: int = 0,
    seed: int = 0,
    device: str = "",
) -> str:
    """Make networks' masks of an organ's training cases, each by a network that has not seen the patient.

    A network's masks of what it learned from are too good to learn from. So the training part of the organ pack's
    split is cut into folds, and each fold is segmented by networks that are trained on the others. `evidence
    --mask_dir` takes the masks; `quality` learns from what `benchmark` makes of them, where the priors have not seen
    these patients either. The networks are those of `reproduce`. A run that was stopped goes on where it was. Several
    may run at once, each with an output_dir of its own.

    Args:
        dataset_dir: folder with images/ and labels/, or a Decathlon task (dataset.json).
        organ: name of the organ pack, or path of its folder; where it describes no U-Net, one is planned from the data
            and written into its organ.yaml, as by `train`.
        output_dir: receives masks/NETWORK/CASE.nii.gz, networks/NETWORK_foldN/ (checkpoint and log), and scores.csv.
        networks: all, or some with commas between them.
        folds: parts of the training cases; those of one patient are in one, which are scan_09 and scan_09_b, but
            not scan_09_a and scan_09_b without a scan_09.
        minutes: of processor time that each training may take, on a GPU of the clock; 0 for no bound. A network is
            trained once a fold.
        steps: batches that it may take; 0 for no bound.
        cases: of the training part, at most, spread evenly over it; 0 for all.
        seed: of weights and batches.
        device: cpu or cuda; empty for cuda where there is one.

    Returns:
        The path of scores.csv.

    Raises:
        ValueError: an option makes no sense, the data set cannot be used, or the folder holds other networks.
        OrganError: the pack describes no U-Net, and none can be planned.
    """
    chosen = choose_networks(networks)
    setup = setup_of(organ, dataset_dir, minutes, steps, seed, device)
    pairs = training_part(setup.pack, dataset_dir)
    require_data(pairs, dataset_dir)
    known = [case_name(pair["label"]) for pair in pairs]
    pairs = [pairs[i] for i in evenly_spaced(len(pairs), cases or len(pairs))]
    fold_of = fold_of_each([case_name(pair["label"]) for pair in pairs], folds, known)
    out = Path(output_dir).resolve()
    rows: list[dict[str, Any]] = []
    with FolderLock(out):
        for name in chosen:
            masks = out / "masks" / name
            for fold in range(folds):
                others = [pair for pair, own in zip(pairs, fold_of, strict=True) if own != fold]
                unseen = [pair for pair, own in zip(pairs, fold_of, strict=True) if own == fold]
                folder = out / "networks" / f"{name}_fold{fold}"
                train_and_segment(setup, name, folder, others, unseen, unseen, masks)
                for pair in unseen:
                    head = {"network": name, "fold": fold, "case": case_name(pair["label"])}
                    found = dsc_of(setup.pack, mask_file(masks, pair), pair["label"])
                    rows += [head | {"structure": structure, DSC: dsc} for structure, dsc in found.items()]
            write_csv(out / "scores.csv", rows)
            own = [row[DSC] for row in rows if row["network"] == name]
            logger.info("%s: mean DSC %.1f %% of %d masks", name, np.nanmean(own), len(pairs))
    return str(out / "scores.csv")


def training_part(pack: OrganPack, dataset_dir: str) -> list[Pair]:
    """Return the image and label files of the training part of a pack's split.

    All of it, with what `training_pairs` holds out of it for validation; where the data set lacks some of it, or the
    pack has no split, the "train" part of `training_pairs`.
    """
    parts = [training_pairs(dataset_dir, pack.split, part) for part in ("train", "validation")]
    known = {case_name(pair["label"]): pair for part in parts for pair in part}
    names = part_names(pack, "train")
    if names and set(names) <= set(known):
        return [known[name] for name in names]
    if names:
        logger.warning(
            "%s lacks files of the split of '%s': the first 85 %% of its own files are taken, which other parts of the "
            "split may hold",
            dataset_dir,
            pack.name,
        )
    return list(parts[0])


def dsc_of(pack: OrganPack, mask: Path, label: str) -> dict[str, float]:
    """Return the DSC in % of each structure, on the mask's grid; NaN where mask and truth lack it.

    Structures of the same labels, the two sides of a pair, are scored together, since a network learns them so.
    """
    values, affine = read_labels(mask)
    x, y, z = values.shape
    truth = resample(*read_labels(label), WorldGrid(affine, (x, y, z)), order=0)
    scores = {}
    for labels in classes_of(pack):
        names = [one.name for one in pack.structures if tuple(one.labels) == labels]
        found, true = np.isin(values, labels), np.isin(truth, labels)
        size = np.count_nonzero(found) + np.count_nonzero(true)
        scores["+".join(names)] = 200.0 * np.count_nonzero(found & true) / size if size else math.nan
    return scores
