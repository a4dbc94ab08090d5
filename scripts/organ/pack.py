"""Organ packs: the folder under `models/` that tells the bundle all it knows of an organ.

A pack holds `organ.yaml` (labels, modality, intensity, spacing, structures, split, provenance), one shape prior a
structure (`<structure>.safetensors`), and where there are such, the organ's own U-Net (`model.pt`), the joint model of
its structures and its voxel head. No code names an organ: a new one is a new folder. What can stand in
`organ.yaml` is listed in docs/organ_pack.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from .checks import OrganError, entries, flag, list_of, mapping_of, number, safe_name, shown, text, three
from .fields import read, section, setting
from .imaging import Augment, Intensity, PatchSize, intensity_of
from .places import BLIND_FILE, EVIDENCE_FILE, JOINT_FILE, MODELS, NETWORK_FILE, ORGAN_FILE, PRESETS
from .sources import OWN_SOURCE, SOURCES, Meanings, plain, resolved, sides_of
from .structure import LABEL, REFINE, Structure, anything, in_folder, shapes_of, structure_list, structure_masks
from .yaml_file import read_yaml

__all__ = [
    "BLIND_FILE",
    "EVIDENCE_FILE",
    "JOINT_FILE",
    "MODELS",
    "ORGAN_FILE",
    "OWN_SOURCE",
    "PRESETS",
    "Member",
    "OrganError",
    "OrganPack",
    "Structure",
    "is_pack",
    "known_organs",
    "shapes_of",
    "structure_masks",
]

SPLIT_PARTS = ("train", "validation", "test")
PROVENANCE_KEYS = ("dataset", "source", "licence", "citation")


def _file_names(value: Any, where: str) -> list[str]:
    return list(list_of(text)(value, where))


@dataclass(frozen=True)
class OrganPack:
    """An organ pack, as read from its `organ.yaml`.

    Attributes:
        folder: the pack's folder.
        name: the organ's name.
        labels: label value → name.
        structures: the shapes to refine.
        codes: label value → keyword of its SNOMED CT code (`pydicom.sr.codedict`), for DICOM files.
        description: what the organ is, in a sentence.
        modality: of the images, such as CT or MR; "" where it is not said.
        default: whether the organ's U-Net is the bundle's `models/model.pt`.
        spacing_mm: spacing the organ's networks work at, (3,).
        image_mm: extent of the images that the U-Net learned from, (3,), right to left, back to front, feet to head;
            None where nothing is known of it.
        intensity: how images are normalised.
        nsd_tolerance_mm: the primary tolerance of the normalised surface distance.
        refine: settings of the refinement (keys of `configs/presets.yaml`) that hold for all structures.
        network: arguments of the organ's U-Net, and `name`, one of MONAI's networks; empty where the organ has none.
        patch_size: the U-Net's window.
        augment: random changes of its training images.
        sources: how other models call and number the labels: name → value or name of theirs → label value.
        split: file names a split ("train", "validation", "test"); empty where none is fixed.
        provenance: where the data came from and under which licence.
        source_sides: of `sources`, value or name of theirs → "left" or "right", where it means one side.
        members: the packs that it is made of, see `several`; () of one that was read.
    """

    folder: Path
    name: str = setting(safe_name)
    labels: dict[int, str] = setting(mapping_of(LABEL, safe_name, least=1))
    structures: tuple[Structure, ...] = setting(structure_list)
    codes: dict[int, str] = setting(mapping_of(LABEL, text), default_factory=dict)
    description: str = setting(text, default="")
    modality: str = setting(text, default="")
    default: bool = setting(flag, default=False)
    spacing_mm: tuple[float, float, float] = setting(three(number(0.01, 100)), default=(1.0, 1.0, 1.0))
    image_mm: tuple[float, float, float] | None = setting(three(number(1, 10_000)), default=None)
    intensity: Intensity = setting(intensity_of, default=Intensity())
    nsd_tolerance_mm: float = setting(number(0, 1000), default=2.0)
    refine: dict[str, Any] = setting(REFINE, default_factory=dict)
    network: dict[str, Any] = setting(mapping_of(text, anything), default_factory=dict)
    patch_size: PatchSize = setting(section(PatchSize), default=PatchSize())
    augment: Augment = setting(section(Augment), default=Augment())
    sources: Meanings = setting(SOURCES, default_factory=dict)
    split: dict[str, list[str]] = setting(entries(SPLIT_PARTS, _file_names), default_factory=dict)
    provenance: dict[str, str] = setting(entries(PROVENANCE_KEYS, text), default_factory=dict)
    source_sides: dict[str, dict[int | str, str]] = field(default_factory=dict)
    members: tuple[Member, ...] = ()

    @classmethod
    def load(cls, organ: str | Path) -> OrganPack:
        """Read a pack by the organ's name (a folder of `models/`) or by the path of its folder.

        Raises:
            OrganError: the pack is missing, or its organ.yaml does not hold what it must.
        """
        organ = str(organ)  # a name such as 2024 comes as a number from a command line
        for folder in (Path(organ), MODELS / organ):
            if is_pack(folder):
                pack = cls.of(read_yaml(folder / ORGAN_FILE), folder)
                is_own = folder.resolve().parent == MODELS.resolve()  # a copy has a U-Net of its own
                return pack if is_own else replace(pack, default=False)
        raise OrganError(
            f"no organ pack {shown(str(organ))}: {MODELS / organ / ORGAN_FILE} is missing. Known organs: "
            f"{', '.join(known_organs()) or 'none'}. {_meant(organ)}Train a new one: "
            "shape-refine train-prior, or configs/train_prior.yaml."
        )

    @classmethod
    def of(cls, values: object, folder: Path) -> OrganPack:
        """Return the pack that the values of an organ.yaml describe.

        Args:
            values: what stands in the file.
            folder: the pack's folder.

        Raises:
            OrganError: a key is unknown or missing, a value is not what it must be, or they do not fit together.
        """
        file = folder / ORGAN_FILE
        pack = read(cls, values, str(file), folder=folder)
        names = [label.casefold() for label in pack.labels.values()]
        for label in pack.labels.values():
            if names.count(label.casefold()) > 1:
                raise OrganError(f"{file}: labels: several are called '{label}': rename one")
        unnamed = [value for value in pack.codes if value not in pack.labels]
        if unnamed:
            raise OrganError(
                f"{file}: codes: {unnamed} are none of {list(pack.labels)}, which `labels` lists: add them there or "
                "remove them here"
            )
        for structure in pack.structures:
            unlisted = [value for value in structure.labels if value not in pack.labels]
            if unlisted:
                raise OrganError(
                    f"{file}: structures: {structure.name}: labels {unlisted} are none of {list(pack.labels)}, which "
                    "`labels` lists: add them there or remove them here"
                )
        return replace(
            pack,
            structures=tuple(in_folder(structure, folder) for structure in pack.structures),
            sources=resolved(pack.sources, pack.labels, pack.structures, f"{file}: sources"),
            source_sides=sides_of(pack.sources, pack.structures),
        )

    @property
    def file(self) -> Path:
        """The pack's organ.yaml."""
        return self.folder / ORGAN_FILE

    @property
    def readers(self) -> list[Path]:
        """The files of what reads images, those that there are: its voxel head and its U-Net."""
        files = self.folder / EVIDENCE_FILE, (MODELS if self.default else self.folder) / NETWORK_FILE
        return [file for file in files if file.is_file()]

    @property
    def packs(self) -> tuple[OrganPack, ...]:
        """The packs that it is made of: itself, if it was read."""
        return tuple(member.pack for member in self.members) or (self,)

    @property
    def is_trained(self) -> bool:
        """Whether each structure has its prior."""
        return all(structure.prior.is_file() for structure in self.structures)

    def named(self, source: str = "") -> dict[str, int]:
        """Return name → label value: by the names of one of its sources, or of all, and by its own, see `plain`.

        A label may also have the pack's name before its own, as in the results of `several` packs.
        """
        chosen = [self.sources[source]] if source in self.sources else self.sources.values()
        known = {name: label for member in self.members for name, label in member.names.items()}
        known |= {plain(key): label for meanings in chosen for key, label in meanings.items() if isinstance(key, str)}
        known |= {plain(f"{self.name}_{own}"): label for label, own in self.labels.items() if not self.members}
        known |= {plain(shape.name): one.labels[0] for one in self.structures for shape in (*one.pair, one)}
        return known | {plain(own): label for label, own in self.labels.items()}

    def masks(self, label_map: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
        """Return structure name → voxels of a whole label map, see `structure_masks`."""
        return structure_masks(self.structures, label_map, affine)

    def shapes(self, label_map: np.ndarray, affine: np.ndarray) -> Iterator[tuple[Structure, np.ndarray]]:
        """Yield the shapes that a whole label map holds, with their voxels, see `shapes_of`."""
        return shapes_of(self.structures, label_map, affine)

    def structure(self, name: str) -> Structure:
        """Return the structure of that name.

        Raises:
            OrganError: the pack has no such structure.
        """
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise OrganError(
            f"organ '{self.name}' has no structure '{name}': choose one of {[s.name for s in self.structures]}"
        )


@dataclass(frozen=True)
class Member:
    """An organ pack in a run with others.

    Attributes:
        pack: with the structures, labels and names that are left to it.
        labels: label value of the pack → value in the run.
        left: structure that an earlier pack refines → name of that pack.
        passed: what other models call those, source → name or value of theirs → value in the run.
        names: what the pack itself calls those, see `plain` → value in the run.
    """

    pack: OrganPack
    labels: dict[int, int]
    left: dict[str, str] = field(default_factory=dict)
    passed: Meanings = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Say what it refines, and what it leaves to which pack."""
        own = ", ".join(structure.name for structure in self.pack.structures) or "nothing"
        others = ", ".join(dict.fromkeys(self.left.values()))
        return f"{self.pack.name}: {own}" + (f"; left to {others}: {', '.join(self.left)}" if self.left else "")


def known_organs() -> list[str]:
    """Return the names of the packs in `models/`, sorted; the default organ (`default: true`) is the first."""
    files = sorted(MODELS.glob(f"*/{ORGAN_FILE}"))
    return [file.parent.name for file in sorted(files, key=lambda file: not _is_default(file))]


def _is_default(file: Path) -> bool:
    try:
        return read_yaml(file).get("default") is True
    except OrganError:  # it is said by who loads that pack
        return False


def is_pack(folder: Path) -> bool:
    """Return whether a folder holds an organ pack."""
    try:
        return (folder / ORGAN_FILE).is_file()
    except (OSError, ValueError):  # too long a name, or one with a NUL
        return False


def _meant(organ: str) -> str:
    """Say which pack is probably meant: one of nearly that name, or one that refines a structure of it; "" for none."""
    known, asked = known_organs(), organ.strip().lower()[:80]
    near = get_close_matches(asked, known, 1) or [name for name in known if len(asked) > 2 and name.startswith(asked)]
    if near:
        return f"Is it {near[0]}? "
    for name in known:
        try:
            refined = [structure.name for structure in OrganPack.load(name).structures]
        except OrganError:
            continue  # told where that pack is used
        if asked in refined:
            return f"The pack {name} refines {asked}: --organ {name}. "
    return ""
