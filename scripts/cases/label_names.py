"""What the values of a label map are called: by its own header, or by a file that its model has left beside it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np

from .errors import CaseError, UnreadableCase, UnrefinableCase
from .find import is_nifti, is_nrrd
from .nrrd_file import segment_names
from .read import open_volume

NAMES_FILE = "dataset.json"  # of nnU-Net
INDICES_FILE = "organ_indices.json"  # of MOOSE, after the model's name
MOST_SAID = 200  # letters of an error in a message


def names_of(path: Path) -> dict[int, list[str]]:
    """Return value → names of a label map, the most specific first, from its header or a file beside it.

    A NRRD file's names are those of its segments. nnU-Net's `dataset.json` lies beside the label map or, for a folder
    such as `labelsTr`, beside that; MOOSE's `<model>_organ_indices.json` beside `<model>_segmentation_<image>`.
    """
    return _own_names(path) or _names_beside(path)


def names_lost(path: Path) -> dict[int, str]:
    """Return value → name of a label map of which a copy as NIfTI, in another folder, would know none, see `names_of`.

    They are none where it is a NIfTI file with names in its header, or no names can be read.
    """
    with suppress(CaseError):
        own = _own_names(path)
        return {} if own and is_nifti(path) else {v: all_[0] for v, all_ in (own or _names_beside(path)).items()}
    return {}


def _own_names(path: Path) -> dict[int, list[str]]:
    """Return value → names of a label map's own header."""
    try:
        return segment_names(path) if is_nrrd(path) else _header_names(open_volume(path)) if is_nifti(path) else {}
    except ValueError as error:
        raise UnreadableCase(str(error)) from error


def _names_beside(path: Path) -> dict[int, list[str]]:
    """Return value → names of a file beside a label map."""
    file = names_file(path)
    if file is None:
        return {}
    return _dataset_names(file) if file.name == NAMES_FILE else _moose_names(file)


def table_of(names: Mapping[int, str]) -> nib.nifti1.Nifti1Extension:
    """Return value → name as an extension of a NIfTI header, as TotalSegmentator writes it too, see `names_of`."""
    root = ElementTree.Element("CaretExtension")
    table = ElementTree.SubElement(ElementTree.SubElement(root, "VolumeInformation", Index="0"), "LabelTable")
    for value, name in names.items():
        ElementTree.SubElement(table, "Label", Key=str(value)).text = name
    return nib.nifti1.Nifti1Extension(0, ElementTree.tostring(root, "utf-8"))


def names_file(path: Path) -> Path | None:
    """Return the file beside a label map that names its values, see `names_of`; None where there is none."""
    path = path.resolve()  # a link's names lie beside its file
    folders = [path.parent, path.parent.parent] if path.parent.name.startswith("labels") else [path.parent]
    indices = path.with_name(path.name.partition("segmentation_")[0] + INDICES_FILE)
    return next((file for file in (indices, *(folder / NAMES_FILE for folder in folders)) if file.is_file()), None)


def _dataset_names(file: Path) -> dict[int, list[str]]:
    """Return value → names of nnU-Net's `labels`: name → value or values (version 2), or value → name (version 1).

    Raises:
        UnrefinableCase: it has none.
    """
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))["labels"]
        found: dict[int, list[tuple[int, str]]] = {}
        for key, item in labels.items():
            name, values = (item, [key]) if isinstance(item, str) else (key, list(np.atleast_1d(item)))
            for value in values:
                found.setdefault(int(value), []).append((len(values), str(name)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())[:MOST_SAID]
        raise UnrefinableCase(f"{file} lists no labels as nnU-Net writes them ({said}): repair or remove it") from error
    return {value: [name for _, name in sorted(names)] for value, names in found.items() if value != 0}


def _moose_names(file: Path) -> dict[int, list[str]]:
    """Return value → name of MOOSE's `organ_indices`: value → name and codes.

    Raises:
        UnrefinableCase: it has none.
    """
    try:
        indices = json.loads(file.read_text(encoding="utf-8"))["organ_indices"]
        return {int(value): [str(item["name"])] for value, item in indices.items() if int(value) != 0}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())[:MOST_SAID]
        raise UnrefinableCase(f"{file} lists no labels as MOOSE writes them ({said}): repair or remove it") from error


def _header_names(image: nib.Nifti1Image) -> dict[int, list[str]]:
    """Return value → name of the label table in a NIfTI file's header (Caret's XML); {} where it has none."""
    for extension in image.header.extensions:
        try:
            content = extension.get_content()
        except Exception:  # a reader of nibabel's for each kind, some missing: a mask does not depend on them
            continue
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        if "LabelTable" not in text:
            continue
        try:
            table = ElementTree.fromstring(text.strip("\0 \n")).iter("Label")
            return {int(e.get("Key", "0")): [(e.text or "").strip()] for e in table if e.get("Key") != "0"}
        except (ElementTree.ParseError, ValueError):
            continue
    return {}
