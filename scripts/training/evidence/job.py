"""The command that trains a pack's voxel head from images and labels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...cases.lock import FolderLock
from ...cases.split import choose_labels, evenly_spaced
from ...evidence.channels import CHANNELS, FROM_PRIOR, OF_IMAGE
from ...evidence.head import VoxelHead, VoxelNet
from ...organ.pack import BLIND_FILE, EVIDENCE_FILE, OrganPack
from ...refine.chain import Refiner
from .examples import PARTS, Case, Examples, load_examples, make_examples, read_case, save_examples, unknown
from .training import train_net

DONORS = 8  # patients whose organs are blended into others' drafts
MOST_DRAFTS = 10  # of a patient, whose seeds are no other's
WITHOUT = {"": (), "prior": FROM_PRIOR, "image": OF_IMAGE}  # channels that a head is not told of
DRAFT_STEP_MM = 2.0  # spacing of a head's grid is that of the pack's images, but at most this


def evidence(
    dataset_dir: str,
    organ: str,
    mask_dir: str = "",
    source: str = "",
    split: str = "train",
    cases: int = 48,
    drafts: int = 3,
    cache_dir: str = "cache/evidence",
    steps: int = 5000,
    without: str = "",
    output: str = "",
    seed: int = 0,
) -> str:
    """Train a voxel head of an organ pack on flawed masks of its training split: it reads images, or masks alone.

    Args:
        dataset_dir: folder with `images/` and `labels/` of NIfTI files of the same names; `--without image` needs
            `labels/` only.
        organ: organ pack, by name or path.
        mask_dir: folders, with commas between them, of real networks' masks of some of these patients, files of the
            same names: each is a draft more.
        source: whose labels label maps and masks have, one of the organ pack's sources, where no names tell.
        split: the pack's split to take the patients from; empty for all of the folder.
        cases: patients, at most; spread evenly over them.
        drafts: flawed masks that are made of each patient.
        cache_dir: where prepared examples are kept: a training that was stopped goes on from there.
        steps: training steps of each structure's net.
        without: "image" trains the head for masks that come without an image; "prior" one that is told nothing of the
            fits, to see what they are worth.
        output: where the head is written; by default into the pack, but without prior.
        seed: of drafts, initialisation and order.

    Returns:
        Where the head was written.
    """
    if without not in WITHOUT:
        raise ValueError(f"--without is prior or image, not {without}")
    prior = without != "prior"  # otherwise its quickest fit will do: it only says where to look
    refiner = Refiner(OrganPack.load(organ), "default" if prior else "linear", seed=seed, see=False)
    pack = refiner.pack
    labels = Path(dataset_dir) / "labels"
    images = Path(dataset_dir) / "images" if (Path(dataset_dir) / "images").is_dir() else None
    if images is None and without != "image":
        raise ValueError(f"{dataset_dir} has no folder images: add it, or train for masks alone by --without image")
    if not prior and not output:
        raise ValueError("a head without prior is not for a pack: say by --output where it is to be written")
    mask_dirs = [Path(folder) for folder in mask_dir.split(",") if folder]
    files = choose_labels(labels, pack, split)
    names = [files[i].name for i in evenly_spaced(len(files), cases)]
    lent = evenly_spaced(len(files), DONORS)
    step_mm = min(*pack.spacing_mm, DRAFT_STEP_MM)
    made_of: tuple[object, ...] = dataset_dir, names, mask_dirs, drafts, seed, step_mm, CHANNELS, PARTS
    if images is None or source:
        made_of = *made_of, images is None, source
    if not prior:
        made_of = *made_of, without
    cache = Path(cache_dir) / f"{pack.name}_{zlib.crc32(repr(made_of).encode()):08x}"
    with FolderLock(cache):  # two trainings at once would spoil each other's files
        parts: list[Examples] = []
        donors: list[Case] = []
        for name in tqdm(names, desc="patients"):
            file = cache / f"{name}.npz"
            if not file.is_file():
                donors = donors or [read_case(files[i].name, images, labels, [], refiner, source) for i in lent]
                case = read_case(name, images, labels, mask_dirs, refiner, source)
                save_examples(file, _of_case(case, donors, drafts, refiner, step_mm, seed, prior))
            parts.append(unknown(load_examples(file), WITHOUT[without]))
        nets: dict[str, VoxelNet] = {}
        for sides in _sides(pack):
            own = [one for part in parts for side in sides for one in part.get(side, []) if len(one.truth)]
            if not own:
                raise ValueError(
                    f"no label map of {labels} gives an example of {sides[0]}: all {len(names)} of them "
                    "lack it, or hold the left and the right one"
                )
            nets |= dict.fromkeys(sides, train_net(own, steps, seed, sides[0]))
        card = {
            "organ": pack.name,
            "provenance": pack.provenance,
            "trained_on": names,
            "drafts": drafts,
            "masks": [folder.name for folder in mask_dirs],
            "steps": steps,
            **({"without": without} if without else {}),
            "seed": seed,
        }
        target = Path(output) if output else pack.folder / (BLIND_FILE if without == "image" else EVIDENCE_FILE)
        VoxelHead(nets, step_mm, card).save(target)
    return f"voxel head of {len(nets)} structures, {len(names)} patients: {target}"


def _sides(pack: OrganPack) -> list[list[str]]:
    """Return the structures of a pack, those together that are mirror images of each other, and share a net."""
    found: dict[tuple[Path, bool], list[str]] = {}
    for one in pack.structures:
        fixed = one.mirror in ("never", "always")
        found.setdefault((one.prior, fixed) if fixed else (Path(one.name), fixed), []).append(one.name)
    return list(found.values())


def _of_case(
    case: Case, donors: list[Case], drafts: int, refiner: Refiner, step_mm: float, seed: int, prior: bool
) -> Examples:
    """Return the examples of all drafts of a patient."""
    others = [donor for donor in donors if donor.name != case.name]
    wanted: list[np.ndarray | None] = [*case.masks, *[None] * drafts]
    first = seed + zlib.crc32(case.name.encode()) % 100_000 * MOST_DRAFTS
    found: Examples = {}
    for number, mask in enumerate(wanted):
        for name, one in make_examples(case, others, mask, refiner, step_mm, first + number, prior).items():
            found.setdefault(name, []).append(one)
    return found
