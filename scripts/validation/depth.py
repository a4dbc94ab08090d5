"""`python -m scripts depth`: by how much a network draws all masks too large, from a few cases with a truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from ..cases.sources import LabelSource
from ..evaluation.pairing import pair_methods
from ..geometry.boxed import BoxedMask
from ..organ.pack import OrganPack
from ..organ.structure import structure_masks
from ..refine.inward import candidates

MOST_MM, STEP_MM = 6.0, 0.25
DEPTHS_MM = np.arange(-MOST_MM, MOST_MM + STEP_MM / 2, STEP_MM)
WORTH = 0.5  # points of DSC that a structure's depth must bring, in patients that had no part in its choice
LEAST_PATIENTS = 3
ALL = "all structures"


def depth(
    organ: str,
    label_dir: str,
    mask_dir: str,
    source: str = "",
    label_source: str = "",
) -> str:
    """Find the one depth by which a network's masks must be taken inward to be best, for --inward_mm of other cases.

    Each mask is taken inward, and outward, by every depth from 0 to 6 mm in steps of a quarter, and compared with its
    truth; nothing is refined. The best depth is that of the highest mean DSC. What it is worth for other patients is
    measured by choosing it without each patient in turn. Do not score anything else on these cases then.

    Args:
        organ: name of the organ pack, or path of its folder; its priors are not used.
        label_dir: folder of true label maps.
        mask_dir: the network's masks, named like the labels or with a suffix after a '_'.
        source: whose labels the masks have, one of the organ pack's sources, where no names tell.
        label_source: the same of the true label maps.

    Returns:
        A table: for each structure and for all, the best depth and what it brings; and what to do with it.

    Raises:
        ValueError: masks and labels do not belong together, or there are too few patients.
    """
    pack = OrganPack.load(organ)
    masks, labels = LabelSource.of(pack, source), LabelSource.of(pack, label_source)
    pairing = pair_methods(label_dir, {"masks": mask_dir}, predicted=masks, true=labels)
    patients: list[str] = []
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    for case in tqdm(pairing.cases, desc="masks", disable=None):
        given, true = masks.read(case.predictions["masks"]), labels.read(case.label)
        patients += [case.patient] if case.patient not in patients else []
        label_map = given.in_pack_values()
        truths = structure_masks(pack.structures, true.in_pack_values(), true.affine)
        for name, mask in structure_masks(pack.structures, label_map, given.affine).items():
            if mask.any() and truths[name].any():
                scores = dice_by_depth(BoxedMask.of(mask), truths[name], given.affine, label_map)
                found.setdefault(name, []).append((patients.index(case.patient), scores))
    if len(patients) < LEAST_PATIENTS:
        raise ValueError(f"{len(patients)} patients: to tell one depth for all takes at least {LEAST_PATIENTS}")
    return _table(found)


def dice_by_depth(mask: BoxedMask, truth: np.ndarray, affine: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """Return the DSC in % of a mask at each of `DEPTHS_MM`.

    Args:
        mask: of a grid.
        truth: (X, Y, Z) bool, not empty.
        affine: (4, 4) voxel → world mm.
        label_map: (X, Y, Z), in which the mask and other labels are.
    """
    total = int(np.count_nonzero(truth))
    scores = np.zeros(len(DEPTHS_MM))
    for inward in (True, False):
        measured, among = candidates(mask, affine, MOST_MM if inward else -MOST_MM, label_map)
        deepest_first = np.argsort(-measured.order[among], kind="stable")
        right = np.concatenate([[0], np.cumsum(truth[measured.mask.box][among][deepest_first])])
        for k in np.flatnonzero((DEPTHS_MM > 0) == inward):
            voxels = mask.count if DEPTHS_MM[k] == 0 else round(measured.voxels_at(float(DEPTHS_MM[k]), among))
            same = np.count_nonzero(mask.part & truth[mask.box]) if DEPTHS_MM[k] == 0 else right[voxels]
            scores[k] = 200.0 * same / max(voxels + total, 1)
    return scores


def _table(found: Mapping[str, Sequence[tuple[int, np.ndarray]]]) -> str:
    """Return the table of structure → (patient, DSC at each depth) of its masks, and what to do."""
    lines = [
        "| structure | masks | best depth, mm | DSC % as given | at that depth | at one chosen without the patient |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    worth = []
    for name, own in {**found, ALL: [one for masks in found.values() for one in masks]}.items():
        scores, of_patient = np.stack([one for _, one in own]), np.array([patient for patient, _ in own])
        mean = scores.mean(0)
        given, best, apart = mean[DEPTHS_MM == 0][0], float(DEPTHS_MM[mean.argmax()]), np.nan
        if len(set(of_patient)) > 1:
            others = [scores[of_patient != patient].mean(0).argmax() for patient in of_patient]
            apart = float(scores[np.arange(len(own)), others].mean())
        lines.append(f"| {name} | {len(own)} | {best:g} | {given:.1f} | {mean.max():.1f} | {apart:.1f} |")
        if name != ALL and apart >= given + WORTH:
            worth.append(f"{name}={best:g}")
    advice = f"for other masks of this network: --inward_mm {','.join(worth)}"
    return "\n".join([*lines, "", advice if worth else "no depth is worth it: leave --inward_mm out"])
