"""Label maps of other models: which of their values, or of their mask files, mean which of a pack's labels.

Four layouts are read as they are: label maps beside a file that names their values, as nnU-Net and MOOSE write it;
label maps with a table of names in their header, as TotalSegmentator's; folders of binary masks, one a structure, whose
file names are the labels' names; and folders with one label map, which is called the same in all. Where there are
names, they decide, by the pack's own names and those of the `sources` in its `organ.yaml`. Where there are none, values
are the pack's own, or those of the source that the user names.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage

from ..geometry.affine import same_grid, spacing_mm
from ..geometry.surface import crop_box
from ..organ.checks import shown
from ..organ.pack import OWN_SOURCE, OrganError, OrganPack
from ..organ.sources import plain
from .arrays import in_world
from .errors import CaseError, UnreadableCase, UnrefinableCase
from .find import NAMED_AT_MOST, case_name, is_nrrd, list_masks, masks_of, nested_volumes, volumes_of
from .given_sides import side_of, wrong_sides
from .label_names import NAMES_FILE, names_of
from .labels import COUNTED_AT_ONCE, label_values, looks_like_an_image, narrow, whole_numbers
from .layers import Place, read_segments
from .nrrd_file import Segment, is_named, segments_of
from .read import check_header, open_volume, read_label_map, read_labels, read_values

logger = logging.getLogger(__name__)

GIVEN = "_given"  # what is appended to a key of a label map for what it was read from, `GivenLabels`
OTHER = -1  # what belongs to no label of the pack: it is never overwritten
LONGEST_TABLE = 1 << 20  # from the lowest to the highest value; of files with more, each voxel's value is searched for
MASKS_FOLDER = "segmentations"  # of a case folder, in TotalSegmentator's training data and AbdomenAtlas
LABEL_MAPS = (  # in a case folder, of AbdomenAtlas and of FastSurfer; each has the same name in all of them
    "combined_labels.nii.gz", "aparc.DKTatlas+aseg.deep.mgz", "mri/aparc.DKTatlas+aseg.deep.mgz",
)  # fmt: skip


@dataclass(frozen=True)
class GivenLabels:
    """A label map as another model gave it, and what its values mean.

    Attributes:
        values: (X, Y, Z), the values of the file, or the numbers of `files` or `places`; in a small type, see `narrow`.
        affine: (4, 4) voxel index → world mm.
        meaning: value → label of the pack.
        files: value → binary mask file; empty where it was one label map.
        places: value → layer and value of a segment of 3D Slicer's; empty where these do not overlap.
        label_map: the file that was read of a case's folder; None where the case is a file, or a folder of masks.
        exchanged: value of a left organ → value of the right one, where each lies on the other's side.
        mend_sides: whether these are written as each other.
        common: of several packs, label → its name among them, which goes into the results' headers; {} for one pack.
        beside: further binary mask files of the case's folder, which are given back with it; of several packs only.
        others: names, or values, of what is in it and is none of the pack's labels.
        is_own: whether the values are just the pack's own.
        named: whether names or a source say what the values mean.
        warnings: what a user should know, such as a left organ that lies on the right.
    """

    values: np.ndarray
    affine: np.ndarray
    meaning: dict[int, int]
    files: dict[int, Path] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    is_own: bool = True
    named: bool = False
    warnings: list[str] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    label_map: Path | None = None
    exchanged: dict[int, int] = field(default_factory=dict)
    mend_sides: bool = False
    common: dict[int, str] = field(default_factory=dict)
    beside: list[Path] = field(default_factory=list)

    def with_sides(self, fix: bool) -> GivenLabels:
        """Return the same with the sides to be mended, where `fix` and they are exchanged, and warnings that say so."""
        if not self.exchanged:
            return self
        if fix:
            said = "left and right were exchanged: the labels are exchanged back in what is written as it was given"
        else:
            said = "left and right are exchanged; --fix_sides true exchanges the labels"
        return replace(self, mend_sides=fix, warnings=[*self.warnings, said])

    def given_files(self) -> list[Path]:
        """Return the files of a case's folder that were read; [] where the case is a file."""
        return list(self.files.values()) or ([self.label_map] if self.label_map else [])

    def in_pack_values(self) -> np.ndarray:
        """Return the label map (X, Y, Z) with the pack's values, `OTHER` where it has none; see `narrow`."""
        if self.is_own:
            return self.values
        low, high = min(int(self.values.min()), 0), int(self.values.max())
        if high - low > LONGEST_TABLE:  # a label of 2^31 - 1 takes no table up to it
            found = label_values(self.values)
            means = [0 if value == 0 else self.meaning.get(value, OTHER) for value in found]
            return narrow(np.array(means, np.int32))[np.searchsorted(found, self.values)]
        table = np.full(high - low + 1, OTHER, np.int32)
        table[-low] = 0
        for value, label in self.meaning.items():
            if 0 <= value - low < len(table):
                table[value - low] = label
        table = narrow(table)
        pieces = np.nditer(
            [self.values, None],
            ["external_loop", "buffered"],
            [["readonly"], ["writeonly", "allocate"]],
            [self.values.dtype, table.dtype],
            buffersize=COUNTED_AT_ONCE,
        )
        with pieces:  # places in a table take eight bytes a voxel
            for values, ours in pieces:
                ours[...] = table[values.astype(np.intp) - low]
            return pieces.operands[1]

    def in_given_values(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the given label map with what was changed of it, (X, Y, Z).

        Where several values mean one label, a new voxel takes that of the nearest voxel of these.

        Args:
            before: (X, Y, Z) what `in_pack_values` returned.
            after: (X, Y, Z) the same, refined.
        """
        result = self.values.copy(order="K")
        changed = before != after
        result[changed] = 0
        for label in label_values(after[changed]):
            added = changed & (after == label)
            origin = before == label
            if label == 0 or not origin.any():
                continue
            box = crop_box(added | origin)
            nearest = ndimage.distance_transform_edt(
                ~origin[box], spacing_mm(self.affine), return_distances=False, return_indices=True
            )
            result[box][added[box]] = self.values[box][tuple(nearest[:, added[box]])]
        return result


@dataclass(frozen=True)
class LabelSource:
    """How label maps are read for an organ pack.

    Attributes:
        pack: the organ pack.
        name: one of the pack's `sources`; "own" for the pack's own values whatever names say; "" lets names decide.
    """

    pack: OrganPack
    name: str = ""

    @classmethod
    def of(cls, organ: str | Path | OrganPack, name: str = "") -> LabelSource:
        """Return the source of that name for an organ pack, or for the pack's name or path.

        Raises:
            OrganError: there is no such pack, or it has no such source.
        """
        pack = organ if isinstance(organ, OrganPack) else OrganPack.load(organ)
        if name and name not in sources_of(pack):
            known = ", ".join(sources_of(pack))
            raise OrganError(f"organ '{pack.name}' has no source {shown(name)}: choose one of {known}")
        return cls(pack, name)

    def label_of(self, name: str) -> int | None:
        """Return the pack's label that a label's name, or a mask file's name without ending, means; None if none."""
        return self.pack.named(self.name).get(plain(name))

    def find(self, path: str | Path) -> list[Path]:
        """Return the cases of a folder, sorted by name: label maps, or folders of binary masks or with a label map.

        The path may also be one such file, or one case's folder of masks: several are named like labels, or one is and
        all lie on one grid, or they lie in `segmentations`; or one case's folder with a label map of `LABEL_MAPS`. A
        single file is a case, whatever it is called. Label maps may also lie in a subfolder each, as MONAI leaves them.

        Raises:
            ValueError: there is none.
        """
        folder = Path(path)
        if folder.is_dir():
            volumes = masks_of(folder)
            if not (folder / NAMES_FILE).is_file() and self._is_one_case(folder, volumes):
                return [folder]
            cases = self._case_folders(folder)
            if not volumes:
                cases = cases or nested_volumes(folder)
                if not cases:
                    self._refuse_other_organs_masks(folder)
                return cases or list_masks(folder)
            if cases:
                names = ", ".join(f.name for f in cases[:NAMED_AT_MOST])
                logger.warning("%s: not read beside label maps: the folders %s; give them alone", folder, names)
        return list_masks(folder)

    def holds_cases_in_folders(self, folder: Path) -> bool:
        """Whether a folder is one case's folder, or holds cases in a subfolder each, as `find` takes them."""
        is_one = self._is_one_case(folder, masks_of(folder))
        return is_one or bool(self._case_folders(folder) or nested_volumes(folder))

    def _case_folders(self, folder: Path) -> list[Path]:
        folders = [f for f in sorted(folder.iterdir()) if f.is_dir() and f.name[0] != "."]
        return [f for f in folders if self._masks(f)[0] or _label_map_in(f)]

    def _refuse_other_organs_masks(self, folder: Path) -> None:
        """Raise a ValueError where a folder's subfolders hold volumes: none is named like a label of the pack."""
        for inner in sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "."):
            if others := [case_name(file) for file in self._masks(inner)[1]]:
                more = f" and {len(others) - NAMED_AT_MOST} more" if len(others) > NAMED_AT_MOST else ""
                raise ValueError(
                    f"{inner} holds {', '.join(others[:NAMED_AT_MOST])}{more}, none of which is named like a label of "
                    f"'{self.pack.name}' ({', '.join(self.pack.labels.values())}): choose the right --organ, or name "
                    f"them under `sources` in {self.pack.file}"
                )

    def _is_one_case(self, folder: Path, volumes: list[Path]) -> bool:
        """Whether a folder's files are the masks of one case, rather than label maps of a case each."""
        named = self._masks(folder)[0]
        if not named and _label_map_in(folder):
            return True
        several = len(named) > 1 or (len(volumes) > 1 and _on_one_grid(volumes))
        return bool(named) and ((folder / MASKS_FOLDER).is_dir() or several)

    def read(self, path: str | Path) -> GivenLabels:
        """Read a label map, or a case's folder of binary masks or with a label map.

        Raises:
            UnreadableCase: a file cannot be read.
            UnrefinableCase: it is no label map, or names say that it has nothing of the pack.
        """
        return replace(self._read(Path(path)), common=self.pack.labels if self.pack.members else {})

    def _read(self, path: Path) -> GivenLabels:
        if path.is_dir():
            file = self._label_map(path)
            return self._read_masks(path) if file is None else replace(self._read(file), label_map=file)
        if (segments := _layered(path)) is not None:
            return self._read_layers(path, segments)
        values, affine = read_labels(path)
        values = narrow(values, max(self.pack.labels))
        meaning, names = self._meaning(path)
        if meaning is None and self._named(path) is not None:
            only = [value for value in label_values(values) if value != 0]
            meaning = {only[0]: self._named(path) or 0} if len(only) == 1 else None
        if meaning is None and self.pack.members:
            raise UnrefinableCase(
                f"{path} has no names of labels, which would tell the organ packs what is theirs: give --source and "
                f"one of {', '.join(sources_of(self.pack))}, whose numbers they are, or --organ and one pack"
            )
        if meaning is None:
            return GivenLabels(values, affine, {label: label for label in self.pack.labels})
        found = [value for value in label_values(values) if value != 0]
        if looks_like_an_image(values, len(found)):
            raise UnrefinableCase(
                f"{path} looks like an image: it holds {len(found)} values that change from voxel to voxel; give "
                "the folder of the label maps"
            )
        others = [" or ".join(names.get(value, [str(value)])) for value in found if value not in meaning]
        is_own = not others and all(meaning[value] == value for value in found)
        called: dict[int, list[int | str]] = {value: [value, *names.get(value, [])] for value in found}
        warnings, exchanged = self._wrong_sides(values, affine, meaning, called)
        named = self.name != OWN_SOURCE
        return GivenLabels(values, affine, meaning, {}, others, is_own, named, warnings, exchanged=exchanged)

    def key(self, path: Path) -> str:
        """Return what distinguishes a reading of the same bytes: "" where the values are taken for the pack's own."""
        if path.is_dir():
            masks, file = self._masks(path)[0], self._label_map(path)
            return self.key(file) if file else repr([(mask.name, label) for mask, label in masks.items()])
        if (segments := _layered(path)) is not None:
            return repr([(one, label) for one, label in self._of_pack(path, segments)])
        meaning, _ = self._meaning(path)
        if meaning is None and self._named(path) is not None:
            return f"mask of {self._named(path)}"
        return "" if meaning is None or all(a == b for a, b in meaning.items()) else repr(sorted(meaning.items()))

    def names(self, path: Path) -> list[str]:
        """Return what a case's masks or values are called; of a binary mask, its file's name."""
        if not path.is_dir():
            if (segments := _layered(path)) is not None:
                return [one.name for one in segments]
            names = [name for own_names in names_of(path).values() for name in own_names]
            return names or [case_name(path)]
        file = self._label_map(path)
        masks, others = self._masks(path)
        return self.names(file) if file else [case_name(mask) for mask in (*masks, *others)]

    def files(self, path: Path) -> list[Path]:
        """Return the files that hold a case's labels: itself, or those of a folder that are the pack's."""
        file = self._label_map(path) if path.is_dir() else path
        return [file] if file else list(self._masks(path)[0])

    def _label_map(self, folder: Path) -> Path | None:
        """Return the label map of a case's folder; None where it has none, or masks that are named like labels."""
        return None if self._masks(folder)[0] else _label_map_in(folder)

    def _meaning(self, path: Path) -> tuple[dict[int, int] | None, dict[int, list[str]]]:
        """Return value → label of a label map, None where the values are its own, and value → names."""
        if self.name == OWN_SOURCE:
            return {label: label for label in self.pack.labels}, {}
        names, is_own_output = names_of(path), is_output(path)
        if is_own_output and not names:  # those of several packs have them
            return None, {}
        by_value = {v: label for v, label in self.pack.sources.get(self.name, {}).items() if isinstance(v, int)}
        if by_value and not is_own_output:
            return by_value, names
        meaning = self._by_names(names)
        listed = ", ".join(name for own_names in names.values() for name in own_names[:1])
        if names and not meaning:
            raise UnrefinableCase(
                f"{path}: none of its labels ({listed}) is one of '{self.pack.name}': choose the right --organ, name "
                f"them under `sources` in {self.pack.folder / 'organ.yaml'}, or give --source {OWN_SOURCE} if the "
                "values are the organ's own"
            )
        if not self.name and not names and path.name in [Path(name).name for name in LABEL_MAPS]:
            known = ", ".join(sources_of(self.pack))
            raise UnrefinableCase(
                f"{path} has no names of labels: give --source and one of {known}, whose numbers they are"
            )
        if self.name and not names:
            raise UnrefinableCase(
                f"{path} has no names of labels, and the source '{self.name}' gives no values: put a {NAMES_FILE} with "
                f"the names beside it, or give --source {OWN_SOURCE} if the values are the organ's own"
            )
        return (meaning, names) if names else (None, {})

    def _by_names(self, names: Mapping[int, Sequence[str]]) -> dict[int, int]:
        """Return value → label of those of whose names, the most specific first, one is known."""
        found = {value: [self.label_of(name) for name in own] for value, own in names.items()}
        return {v: next(one for one in own if one is not None) for v, own in found.items() if any(own)}

    def _named(self, path: Path) -> int | None:
        """Return the label that a file is named like, which it means if it is a binary mask; None if none."""
        return None if self.name else self.label_of(case_name(path))

    def _masks(self, folder: Path) -> tuple[dict[Path, int], list[Path]]:
        """Return mask file → label of a case's folder, by name, and the other masks."""
        inner = folder / MASKS_FOLDER
        volumes = volumes_of(inner if inner.is_dir() else folder)
        labels = {file: self.label_of(case_name(file)) for file in volumes}
        others = [file for file, label in labels.items() if label is None]
        return {file: label for file, label in labels.items() if label is not None}, others

    def _read_masks(self, folder: Path) -> GivenLabels:
        masks, others = self._masks(folder)
        if not masks:
            raise UnrefinableCase(
                f"{folder} holds no mask that is named like a label of '{self.pack.name}': choose the right --organ, "
                f"or name them under `sources` in {self.pack.folder / 'organ.yaml'}"
            )
        values = np.zeros(0)
        affine = np.eye(4)
        for number, file in enumerate(masks, 1):
            mask, its_affine = read_labels(file)
            found = [value for value in label_values(mask) if value != 0]
            if len(found) > 1:
                raise UnrefinableCase(
                    f"{file} is named like a label, but is no binary mask: it holds the values {found[:6]}; rename it "
                    "if it is a case's label map"
                )
            if number == 1:
                values, affine = np.zeros(mask.shape, np.int32), its_affine
            if not same_grid(mask.shape, its_affine, values.shape, affine):
                raise UnrefinableCase(f"{file} is not on the grid of the other masks in {folder}: resample it")
            values[(mask != 0) & (values == 0)] = number
        meaning = dict(enumerate(masks.values(), 1))
        found = [number for number in label_values(values) if number != 0]
        called = {number: [case_name(list(masks)[number - 1])] for number in found}
        warnings, exchanged = self._wrong_sides(values, affine, meaning, called)
        files, names = dict(enumerate(masks, 1)), [case_name(file) for file in others]
        given = GivenLabels(values, affine, meaning, files, names, False, True, warnings, exchanged=exchanged)
        return replace(given, beside=others if self.pack.members else [])

    def _read_layers(self, path: Path, segments: Sequence[Segment]) -> GivenLabels:
        """Read the segments of a file with several layers that are labels of the pack."""
        known = self._of_pack(path, segments)
        image = open_volume(path)
        affine = check_header(image, path, channels=True)
        try:
            values, places, meaning = read_segments(whole_numbers(read_values(image, path), path), known)
        except ValueError as error:
            raise UnreadableCase(f"{path}: {error}") from error
        except IndexError as error:
            raise UnreadableCase(f"{path} has fewer layers than its header names: export it again") from error
        others = [one.name for one in segments if one not in [own for own, _ in known]]
        called = {number: [one.name] for number, (one, _) in enumerate(known, 1)}
        warnings, _ = self._wrong_sides(values, affine, meaning, called)
        return GivenLabels(values, affine, meaning, {}, others, False, True, warnings, places)

    def _of_pack(self, path: Path, segments: Sequence[Segment]) -> list[tuple[Segment, int]]:
        """Return the segments of several layers that are labels of the pack, and these; by name, else by value.

        Raises:
            UnreadableCase: none is, or several of the layers have the same value and no names.
        """
        own_values = self.name == OWN_SOURCE or not (any(map(is_named, segments)) or self.pack.members)
        by_value: Mapping[Any, int] = self.pack.sources.get(self.name, {})
        by_value = {label: label for label in self.pack.labels} if own_values else by_value
        found = [(one, by_value.get(one.value) if own_values else self.label_of(one.name)) for one in segments]
        found = [(one, by_value.get(one.value) if label is None else label) for one, label in found]
        known = [(one, label) for one, label in found if label is not None]
        listed = ", ".join(f"{one.name} ({one.value})" for one in segments)
        if not known or (own_values and len({one.value for one, _ in known}) < len(known)):
            raise UnreadableCase(
                f"{path} has segments that overlap, in several layers, and they ({listed}) cannot be told by their "
                f"names: name them like the labels of '{self.pack.name}' in Slicer, or export it as a label map"
            )
        return known

    def _wrong_sides(
        self,
        values: np.ndarray,
        affine: np.ndarray,
        meaning: Mapping[int, int],
        called: Mapping[int, Sequence[int | str]],
    ) -> tuple[list[str], dict[int, int]]:
        """Say which organs of one side lie on the other, see `wrong_sides`; `called` is value → all that names it."""
        sides = {v: side for v, theirs in called.items() if (side := side_of(self.pack, self.name, theirs))}
        named = {value: [one for one in theirs if isinstance(one, str)] for value, theirs in called.items()}
        names = {value: own[0] for value, own in named.items() if own}
        return wrong_sides(values, affine, meaning, sides, names)


def sources_of(pack: OrganPack) -> list[str]:
    """Return whose labels masks may be said to have: one of a pack's sources, or its own, which several packs lack."""
    return [*pack.sources, *([] if pack.members else [OWN_SOURCE])]


def _label_map_in(folder: Path) -> Path | None:
    """Return the label map of a case's folder, one of `LABEL_MAPS`; None if it has none."""
    return next((folder / name for name in LABEL_MAPS if (folder / name).is_file()), None)


def _layered(path: Path) -> list[Segment] | None:
    """Return the segments of a file with several layers; None of any other.

    Raises:
        UnreadableCase: it is a NRRD file whose header cannot be read.
    """
    if not is_nrrd(path):
        return None
    try:
        return segments_of(path, layered=True) or None
    except ValueError as error:
        raise UnreadableCase(str(error)) from error


def is_output(path: Path) -> bool:
    """Whether a file is a run's `<case>/<case>_initial` or `_refined`, whose values are the pack's."""
    if path.is_dir():
        return False
    return path.parent.name != "" and case_name(path) in {f"{path.parent.name}_{s}" for s in ("initial", "refined")}


def _on_one_grid(files: list[Path]) -> bool:
    """Whether all files that can be opened lie on one voxel grid, as the masks of a case do."""
    grids = []
    for file in files:
        try:
            opened = open_volume(file)
            grids.append((opened.shape[:3], check_header(opened, file)))
        except CaseError:  # it is named where it is read
            continue
    return all(same_grid(*one, *grids[0]) for one in grids)


class ReadMaskd(MapTransform):
    """Read label maps of other models: path → (1, X, Y, Z) MetaTensor with the pack's values, see `narrow`.

    What belongs to no label of the pack is `OTHER`. Beside `<key>` goes `<key>_given`: the `GivenLabels`, for whoever
    writes the label map as it came.

    Args:
        keys: keys of paths to a label map or a case's folder of masks.
        labels: how they are read.
        fix_sides: whether left and right labels that lie on each other's side are written as each other.
    """

    def __init__(
        self, keys: KeysCollection = "pred", labels: LabelSource | None = None, fix_sides: bool = False
    ) -> None:
        super().__init__(keys)
        self.labels = labels
        self.fix_sides = fix_sides

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if self.labels is None:
                d[key] = read_label_map(d[key])
                continue
            d[f"{key}{GIVEN}"] = given = self.labels.read(d[key]).with_sides(self.fix_sides)
            values = torch.from_numpy(given.in_pack_values()[None])
            d[key] = in_world(values, given.affine, d[key])
        return d


ReadMaskD = ReadMaskDict = ReadMaskd
