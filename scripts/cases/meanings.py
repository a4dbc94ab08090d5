"""What the names and values of other models' label maps mean in an organ pack.

Where there are names, they decide, by the pack's own names and those of the `sources` in its `organ.yaml`. Where there
are none, values are the pack's own, or those of the source that the user names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..organ.pack import OWN_SOURCE, OrganPack
from ..organ.sources import plain
from .errors import UnreadableCase, UnrefinableCase
from .find import LABEL_MAPS, MASKS_FOLDER, case_name, is_nrrd, is_output, label_map_in, volumes_of
from .label_names import NAMES_FILE, names_of
from .nrrd_file import Segment, is_named, segments_of


@dataclass(frozen=True)
class KnownLabels:
    """What label maps' names and values mean in an organ pack.

    Attributes:
        pack: the organ pack.
        name: one of the pack's `sources`; "own" for the pack's own values whatever names say; "" lets names decide.
    """

    pack: OrganPack
    name: str = ""

    def label_of(self, name: str) -> int | None:
        """Return the pack's label that a label's name, or a mask file's name without ending, means; None if none."""
        return self.pack.named(self.name).get(plain(name))

    def key(self, path: Path) -> str:
        """Return what distinguishes a reading of the same bytes: "" where the values are taken for the pack's own."""
        if path.is_dir():
            masks, file = self._masks(path)[0], self._label_map(path)
            return self.key(file) if file else repr([(mask.name, label) for mask, label in masks.items()])
        if (segments := layered(path)) is not None:
            return repr([(one, label) for one, label in self._of_pack(path, segments)])
        meaning, _ = self._meaning(path)
        if meaning is None and self._named(path) is not None:
            return f"mask of {self._named(path)}"
        return "" if meaning is None or all(a == b for a, b in meaning.items()) else repr(sorted(meaning.items()))

    def names(self, path: Path) -> list[str]:
        """Return what a case's masks or values are called; of a binary mask, its file's name."""
        if not path.is_dir():
            if (segments := layered(path)) is not None:
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
        return None if self._masks(folder)[0] else label_map_in(folder)

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


def sources_of(pack: OrganPack) -> list[str]:
    """Return whose labels masks may be said to have: one of a pack's sources, or its own, which several packs lack."""
    return [*pack.sources, *([] if pack.members else [OWN_SOURCE])]


def layered(path: Path) -> list[Segment] | None:
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
