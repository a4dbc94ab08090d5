"""Label maps of other models, found and read for an organ pack.

Four layouts are read as they are: label maps beside a file that names their values, as nnU-Net and MOOSE write it;
label maps with a table of names in their header, as TotalSegmentator's; folders of binary masks, one a structure, whose
file names are the labels' names; and folders with one label map, which is called the same in all. What their names and
values mean, `meanings` says.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..geometry.affine import same_grid
from ..organ.checks import shown
from ..organ.pack import OWN_SOURCE, OrganError, OrganPack
from ..organ.side_names import paired_labels
from .arrays import in_world
from .errors import CaseError, UnreadableCase, UnrefinableCase
from .find import MASKS_FOLDER, NAMED_AT_MOST, case_name, label_map_in, list_masks, masks_of, nested_volumes
from .given import GIVEN, GivenLabels
from .given_sides import side_of, wrong_sides
from .label_names import NAMES_FILE
from .labels import label_values, looks_like_an_image, narrow, whole_numbers
from .layers import read_segments
from .meanings import KnownLabels, layered, sources_of
from .nrrd_file import Segment
from .read import check_header, open_volume, read_label_map, read_labels, read_values

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSource(KnownLabels):
    """How label maps are found and read for an organ pack, see `KnownLabels`."""

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
        return [f for f in folders if self._masks(f)[0] or label_map_in(f)]

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
        if not named and label_map_in(folder):
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
        if (segments := layered(path)) is not None:
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
        is_own = not others and self._are_own(meaning, found)
        called: dict[int, list[int | str]] = {value: [value, *names.get(value, [])] for value in found}
        warnings, exchanged = self._wrong_sides(values, affine, meaning, called)
        named = self.name != OWN_SOURCE
        return GivenLabels(values, affine, meaning, {}, others, is_own, named, warnings, exchanged=exchanged)

    def _are_own(self, meaning: Mapping[int, int], found: Sequence[int]) -> bool:
        """Return whether values found are the pack's own, and those of the same organs of the other side are, too."""
        partner = paired_labels(self.pack.labels)
        partner |= {right: left for left, right in partner.items()}
        value_of = {label: value for value, label in reversed(list(meaning.items()))}
        others = {partner.get(meaning[value], 0) for value in found}
        return all(meaning[value] == value for value in found) and all(value_of.get(one, one) == one for one in others)

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
