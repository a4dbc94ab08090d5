"""A minimal organ pack, made from the label maps of an organ that has none."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..cases.errors import READ_ERRORS, CaseError, UnrefinableCase
from ..cases.files import write_text
from ..cases.find import labels_folder, list_masks
from ..cases.label_names import names_of
from ..cases.labels import label_counts, looks_like_an_image
from ..cases.read import read_labels
from ..geometry.affine import voxel_volume_mm3
from ..organ.checks import as_name, safe_name
from ..organ.pack import BLIND_FILE, EVIDENCE_FILE, JOINT_FILE, MODELS, ORGAN_FILE, PRESETS, OrganPack
from ..organ.sources import plain
from ..organ.structure import MOST_LABEL
from ..organ.yaml_file import read_yaml

LARGE_MM = 25.0  # radius of the ball of an organ's volume that the preset's loss scale suits

logger = logging.getLogger(__name__)


def load_or_create_pack(
    organ: str, dataset_dir: str | Path, label: str | int | Sequence[str | int] | None = None, n_scanned: int = 10
) -> OrganPack:
    """The organ's pack; where it has none, a minimal one made from the first label maps.

    It has a structure for every label value found, or for those of `label` only, since a pack can be used when all its
    structures have priors; they are named as the label maps name them where they do, and a single one that these do not
    name is named as the pack. Structures get a loss scale of their own size, see `loss_scale`. Files that hold other
    values than labels are named and passed over.

    Args:
        organ: name of the pack, or its folder.
        dataset_dir: folder of label maps.
        label: names or label values, several with commas, of which a new pack has structures; None for all.
        n_scanned: label maps that are looked at.

    Raises:
        ValueError: the label maps hold no labels, or not that of `label`, or the pack's name cannot be that of a
            folder.
    """
    folder = Path(organ) if os.sep in organ else MODELS / safe_name(organ, "organ")
    if (folder / ORGAN_FILE).is_file():
        return OrganPack.load(folder)
    volumes_mm3: dict[int, list[float]] = {}
    called: dict[int, list[str]] = {}
    for file in list_masks(labels_folder(dataset_dir))[:n_scanned]:
        try:
            labels, affine = read_labels(file)
            counts = label_counts(labels)
            if looks_like_an_image(labels, len(counts)):
                raise UnrefinableCase(f"it looks like an image, with {len(counts)} values")
            if min(counts) < 0 or max(counts) > MOST_LABEL:
                raise UnrefinableCase(f"it holds values from {min(counts)} to {max(counts)}, which are no labels")
            its_names = names_of(file)
        except (*READ_ERRORS, CaseError) as error:
            logger.warning("passed over %s: %s; move it out of %s if it is no label map", file.name, error, dataset_dir)
            continue
        called |= its_names
        for value, count in counts.items():
            if value != 0:
                volumes_mm3.setdefault(value, []).append(count * voxel_volume_mm3(affine))
    if not volumes_mm3:
        raise ValueError(
            f"the label maps in {dataset_dir} hold no labels: cannot make an organ pack; give the folder of the label "
            "maps, whole numbers with 0 for the background"
        )
    name = as_name(folder.resolve().name)
    names = {value: name if len(volumes_mm3) == 1 else f"{name}_{value}" for value in sorted(volumes_mm3)}
    names |= {value: plain(own[0]) for value, own in called.items() if value in volumes_mm3}
    names = names_of_files(names)
    chosen = _chosen(names, label)
    if len(chosen) == 1 and chosen[0] not in called:
        names = dict(sorted(names_of_files({chosen[0]: name, **names, **{chosen[0]: name}}).items()))
    settings: dict[str, Any] = {
        "name": name,
        "description": f"Made from the labels found in {Path(dataset_dir).name}; edit the names and what else you know",
        "labels": names,
        "structures": [
            {"name": names[value], "labels": [value], **loss_scale(float(np.median(volumes_mm3[value])))}
            for value in chosen
        ],
        "provenance": {"dataset": "unknown", "source": "unknown", "licence": "unknown"},
    }
    theirs = {called[value][0]: own for value, own in names.items() if value in called}
    others = {one: own for one, own in theirs.items() if plain(one) not in names.values()}
    if others:
        settings["sources"] = {"found": others}
    pack = OrganPack.of(settings, folder)
    write_text(pack.file, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    logger.warning("made a new organ pack: %s", pack.file)
    return pack


def _chosen(names: Mapping[int, str], label: str | int | Sequence[str | int] | None) -> list[int]:
    """Return the label values, sorted, whose names or values `label` lists.

    Raises:
        ValueError: it lists others.
    """
    if label in (None, "all"):
        return sorted(names)
    given = label if isinstance(label, (list, tuple)) else str(label).split(",")
    wanted = {str(one).strip() for one in given}
    unknown = wanted - {str(value) for value in names} - set(names.values())
    if unknown:
        listed = ", ".join(f"{name} ({value})" for value, name in sorted(names.items()))
        raise ValueError(
            f"--label {', '.join(sorted(unknown))}: the label maps hold {listed}; give one of these names or values"
        )
    return [value for value, name in sorted(names.items()) if {str(value), name} & wanted]


def names_of_files(names: Mapping[int, str]) -> dict[int, str]:
    """Return label → a name of its own that files may be called by: what is not allowed in it becomes `_`."""
    found: dict[int, str] = {}
    taken = {Path(file).stem for file in (JOINT_FILE, EVIDENCE_FILE, BLIND_FILE)}
    for value, name in names.items():
        own, mark = as_name(name), f"_{value}"
        while own.casefold() in taken:
            own, mark = as_name(name)[:40] + mark, mark + "_"
        found[value] = own
        taken.add(own.casefold())
    return found


def loss_scale(volume_mm3: float) -> dict[str, dict[str, float]]:
    """Return the `refine` section of a structure: the default preset's loss scale, for a shape of its size.

    The preset suits a ball of the radius `LARGE_MM`. What is wrong in masks is smaller where the shape is smaller, but
    not larger where it is larger.

    Args:
        volume_mm3: of a typical shape.

    Returns:
        The section; nothing where it would say no more than the preset.
    """
    factor = float(np.cbrt(3.0 * volume_mm3 / (4.0 * np.pi))) / LARGE_MM
    default: dict[str, Any] = read_yaml(PRESETS)["default"]
    return {} if factor >= 1.0 else {"refine": {"loss_scale_mm": round(factor * default["loss_scale_mm"], 2)}}
