"""The command that trains a pack's voxel head from images and labels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...cases.lock import FolderLock
from ...cases.split import evenly_spaced, training_files
from ...evidence.channels import CHANNELS
from ...evidence.head import VoxelHead
from ...organ.pack import EVIDENCE_FILE, OrganPack
from ...refine.chain import Refiner
from .examples import Case, Examples, load_examples, make_examples, read_case, save_examples
from .training import train_net

DONORS = 8  # patients whose organs are blended into others' drafts
DRAFT_STEP_MM = 2.0  # spacing of a head's grid is that of the pack's images, but at most this


def evidence(
    dataset_dir: str,
    organ: str,
    mask_dir: str = "",
    cases: int = 48,
    drafts: int = 3,
    cache_dir: str = "cache/evidence",
    steps: int = 3000,
    output: str = "",
    seed: int = 0,
) -> str:
    """Train the voxel head of an organ pack, which reads images, on flawed masks of its training split.

    Args:
        dataset_dir: folder with `images/` and `labels/` of NIfTI files of the same names.
        organ: organ pack, by name or path.
        mask_dir: folders, with commas between them, of real networks' masks of some of these patients, files of the
            same names: each is a draft more.
        cases: patients, at most; spread evenly over the training split.
        drafts: flawed masks that are made of each patient.
        cache_dir: where prepared examples are kept: a training that was stopped goes on from there.
        steps: training steps of each structure's net.
        output: where the head is written; by default into the pack.
        seed: of drafts, initialisation and order.

    Returns:
        Where the head was written.
    """
    refiner = Refiner(OrganPack.load(organ), seed=seed, see=False)
    pack = refiner.pack
    images, labels = Path(dataset_dir) / "images", Path(dataset_dir) / "labels"
    mask_dirs = [Path(folder) for folder in mask_dir.split(",") if folder]
    files = training_files(pack, labels)
    names = [files[i].name for i in evenly_spaced(len(files), cases)]
    step_mm = min(*pack.spacing_mm, DRAFT_STEP_MM)
    made_of = dataset_dir, names, mask_dirs, drafts, seed, step_mm, CHANNELS
    cache = Path(cache_dir) / f"{pack.name}_{zlib.crc32(repr(made_of).encode()):08x}"
    with FolderLock(cache):  # two trainings at once would spoil each other's files
        parts: list[Examples] = []
        donors: list[Case] = []
        for number, name in enumerate(tqdm(names, desc="patients")):
            file = cache / f"{name}.npz"
            if not file.is_file():
                donors = donors or [read_case(n, images, labels, [], refiner) for n in names[:DONORS]]
                case = read_case(name, images, labels, mask_dirs, refiner)
                save_examples(file, _of_case(case, donors, drafts, refiner, step_mm, seed + 1000 * number))
            parts.append(load_examples(file))
        nets = {}
        for structure in pack.structures:
            own = [part[structure.name] for part in parts if structure.name in part]
            if not own:
                raise ValueError(
                    f"no label map of {labels} gives an example of {structure.name}: all {len(names)} of them "
                    "lack it, or hold the left and the right one"
                )
            values, truth = (np.concatenate([one[k] for one in own]) for k in (0, 1))
            nets[structure.name] = train_net(values, truth, steps, seed, structure.name)
        card = {
            "organ": pack.name,
            "provenance": pack.provenance,
            "trained_on": names,
            "drafts": drafts,
            "masks": [folder.name for folder in mask_dirs],
            "steps": steps,
            "seed": seed,
        }
        target = Path(output) if output else pack.folder / EVIDENCE_FILE
        VoxelHead(nets, step_mm, card).save(target)
    return f"voxel head of {len(nets)} structures, {len(names)} patients: {target}"


def _of_case(case: Case, donors: list[Case], drafts: int, refiner: Refiner, step_mm: float, seed: int) -> Examples:
    """Return the examples of all drafts of a patient."""
    others = [donor for donor in donors if donor.name != case.name]
    wanted: list[np.ndarray | None] = [*case.masks, *[None] * drafts]
    found = [make_examples(case, others, mask, refiner, step_mm, seed + k) for k, mask in enumerate(wanted)]
    names = sorted({name for part in found for name in part})
    return {
        name: (
            np.concatenate([part[name][0] for part in found if name in part]),
            np.concatenate([part[name][1] for part in found if name in part]),
        )
        for name in names
    }
