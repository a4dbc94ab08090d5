"""Organ packs: the folder under `models/` that tells the bundle all it knows of an organ.

A pack holds `organ.yaml` (labels, modality, intensity, spacing, structures, split, provenance), one shape prior a
structure (`<structure>.safetensors`), and where there are such, the organ's own U-Net (`model.pt`), the joint model of
its structures and its evidence networks. No code names an organ: a new one is a new folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .sides import SIDES, Sides, split_sides

MODELS = Path(__file__).resolve().parents[2] / "models"
PRESETS = MODELS.with_name("configs") / "presets.yaml"
JOINT_FILE = "joint.safetensors"
EVIDENCE_FILE = "evidence.safetensors"
OWN_SOURCE = "own"  # the name of the source whose values are the pack's own
MIRROR_CHOICES = ("never", "auto", "always")


class OrganError(ValueError):
    """An organ pack is missing or does not hold what it must."""


@dataclass(frozen=True)
class Structure:
    """One shape: one label, several that make one organ, or one side of such.

    Attributes:
        name: the structure's name, used in file names and tables.
        labels: the label values whose union is the shape; refined voxels keep their part.
        prior: path of the shape prior (it need not exist before training); structures may share one.
        side: "left" or "right" where the labels hold both sides of the patient, see `sides`; "" for all of them.
        mirror: whether the prior may be mirrored: "never", "auto" (both handednesses are tried) or "always".
        refine: settings of the refinement (keys of `configs/presets.yaml`) that hold for this structure only.
    """

    name: str
    labels: tuple[int, ...]
    prior: Path
    mirror: str = "never"
    refine: dict[str, Any] = field(default_factory=dict)
    side: str = ""

    def union(self, label_map: np.ndarray) -> np.ndarray:
        """Return the voxels of the structure's labels, of both sides where it is one of them, (X, Y, Z) bool."""
        mask = label_map == self.labels[0]
        for value in self.labels[1:]:
            mask |= label_map == value
        return mask

    def mask(self, label_map: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Return the structure's voxels of a whole label map, (X, Y, Z) bool; `affine` is (4, 4), voxel → world mm."""
        return structure_masks([self], label_map, affine)[self.name]


def structure_masks(
    structures: Iterable[Structure], label_map: np.ndarray, affine: np.ndarray
) -> dict[str, np.ndarray]:
    """Return structure name → voxels of a label map, (X, Y, Z) bool; sides of the same labels are split once.

    Args:
        structures: of one pack.
        label_map: (X, Y, Z) whole numbers, of the whole volume: where sides end depends on its middle.
        affine: (4, 4) voxel index → world mm.
    """
    split: dict[tuple[int, ...], Sides] = {}
    masks = {}
    for structure in structures:
        if structure.side and structure.labels not in split:
            split[structure.labels] = split_sides(structure.union(label_map), affine)
        sides = split.get(structure.labels) if structure.side else None
        masks[structure.name] = structure.union(label_map) if sides is None else sides.of(structure.side)
    return masks


@dataclass(frozen=True)
class OrganPack:
    """An organ pack, as read from its `organ.yaml`.

    Attributes:
        name: the organ's name.
        folder: the pack's folder.
        labels: label value → name.
        structures: the shapes to refine.
        nsd_tolerance_mm: the primary tolerance of the normalised surface distance.
        spacing_mm: spacing the organ's networks work at, (3,).
        intensity: how images are normalised: `kind` is zscore, window (with `low`, `high`) or minmax.
        network: arguments of the organ's U-Net; empty where the organ has none.
        split: file names a split ("train", "validation", "test"); empty where none is fixed.
        sources: how other models call and number the labels: name → value or name of theirs → label value.
        provenance: where the data came from and under which licence.
        settings: the whole of organ.yaml.
    """

    name: str
    folder: Path
    labels: dict[int, str]
    structures: tuple[Structure, ...]
    nsd_tolerance_mm: float
    spacing_mm: tuple[float, float, float]
    intensity: dict[str, Any]
    network: dict[str, Any]
    split: dict[str, list[str]]
    sources: dict[str, dict[int | str, int]]
    provenance: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def load(cls, organ: str | Path) -> OrganPack:
        """Read a pack by the organ's name (a folder of `models/`) or by the path of its folder.

        Raises:
            OrganError: the pack or one of its required keys is missing or not sensible.
        """
        folder = Path(organ) if Path(organ).is_dir() and (Path(organ) / "organ.yaml").is_file() else MODELS / str(organ)
        file = folder / "organ.yaml"
        if not file.is_file():
            raise OrganError(
                f"no organ pack '{organ}': {file} is missing. Known organs: {', '.join(known_organs()) or 'none'}. "
                "Train a new one with configs/train_prior.yaml."
            )
        settings = yaml.safe_load(file.read_text())
        if not isinstance(settings, dict):
            raise OrganError(f"{file} is not a mapping of settings")
        for key in ("name", "labels", "structures"):
            if key not in settings:
                raise OrganError(f"{file} lacks the key '{key}'")
        labels = {int(value): str(name) for value, name in settings["labels"].items()}
        structures = tuple(_structure(item, folder, labels, file) for item in settings["structures"])
        for one, other in combinations(structures, 2):
            _check_pair(one, other, file)
        return cls(
            name=str(settings["name"]),
            folder=folder,
            labels=labels,
            structures=structures,
            nsd_tolerance_mm=float(settings.get("nsd_tolerance_mm", 2.0)),
            spacing_mm=tuple(float(v) for v in settings.get("spacing_mm", (1.0, 1.0, 1.0))),  # type: ignore[arg-type]
            intensity=dict(settings.get("intensity", {"kind": "zscore"})),
            network=dict(settings.get("network", {})),
            split={key: list(names) for key, names in settings.get("split", {}).items()},
            sources=_sources(settings.get("sources", {}), labels, structures, file),
            provenance=dict(settings.get("provenance", {})),
            settings=settings,
        )

    def masks(self, label_map: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
        """Return structure name → voxels of a whole label map, see `structure_masks`."""
        return structure_masks(self.structures, label_map, affine)

    def structure(self, name: str) -> Structure:
        """Return the structure of that name.

        Raises:
            OrganError: the pack has no such structure.
        """
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise OrganError(f"organ '{self.name}' has no structure '{name}'; it has {[s.name for s in self.structures]}")


def known_organs() -> list[str]:
    """Return the names of the packs in `models/`, sorted; the default organ (`default: true`) is the first."""
    files = sorted(MODELS.glob("*/organ.yaml"))
    return [f.parent.name for f in sorted(files, key=lambda f: not yaml.safe_load(f.read_text()).get("default", False))]


def _structure(item: dict[str, Any], folder: Path, labels: dict[int, str], file: Path) -> Structure:
    name = str(item["name"])
    values = tuple(int(v) for v in item["labels"])
    mirror = str(item.get("mirror", "never"))
    unknown = [v for v in values if v not in labels]
    if unknown:
        raise OrganError(f"{file}: structure '{name}' names the labels {unknown}, which `labels` does not list")
    if mirror not in MIRROR_CHOICES:
        raise OrganError(f"{file}: structure '{name}' has mirror '{mirror}', not one of {MIRROR_CHOICES}")
    side = str(item.get("side", ""))
    if side and side not in SIDES:
        raise OrganError(f"{file}: structure '{name}' has side '{side}', not one of {SIDES}")
    prior = folder / str(item.get("prior", f"{name}.safetensors"))
    return Structure(name, values, prior, mirror, dict(item.get("refine", {})), side)


def _sources(
    items: dict[str, dict[int | str, str]], labels: dict[int, str], structures: Iterable[Structure], file: Path
) -> dict[str, dict[int | str, int]]:
    """Return name → value or name of another model → label value, checked.

    Raises:
        OrganError: a source means what is neither a label nor a structure, or two mean different things by one name.
    """
    known = {s.name: s.labels[0] for s in structures} | {name: value for value, name in labels.items()}
    names: dict[str, str] = {}
    for source, meanings in items.items():
        for theirs, ours in meanings.items():
            if str(ours) not in known or source == OWN_SOURCE:
                raise OrganError(f"{file}: source '{source}': {theirs} means {ours}, not one of {list(known)}")
            if isinstance(theirs, str) and names.setdefault(theirs, str(ours)) != str(ours):
                raise OrganError(f"{file}: the sources mean both '{names[theirs]}' and '{ours}' by '{theirs}'")
    return {
        source: {theirs: known[str(ours)] for theirs, ours in meanings.items()} for source, meanings in items.items()
    }


def _check_pair(one: Structure, other: Structure, file: Path) -> None:
    """Check that two structures of a pack have names and voxels of their own, and agree where they share a prior.

    Raises:
        OrganError: they do not.
    """
    pair = f"{file}: the structures '{one.name}' and '{other.name}'"
    if one.name == other.name:
        raise OrganError(f"{pair} have the same name")
    if set(one.labels) & set(other.labels):
        if set(one.labels) != set(other.labels) or {one.side, other.side} != set(SIDES):
            raise OrganError(f"{pair} share labels: give both the same labels, and one side left, the other side right")
    if one.prior == other.prior and one.mirror != other.mirror:
        raise OrganError(f"{pair} share a prior: give both the same mirror")
