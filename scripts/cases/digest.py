"""What a result was made from, as a hash of the files' content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from .find import inner_volumes, is_meta_image
from .label_names import names_file
from .meta_image import data_file

AT_ONCE = 1 << 20  # bytes


def input_hash(inputs: Mapping[str, str]) -> str:
    """Return a hash (SHA-256) of a case's files: their content, and their names, which may say what they hold.

    What belongs to a file counts too: the voxels beside a `.mhd`, the file that names a label map's values, and all
    volumes of a case's folder.

    Args:
        inputs: key → path of a file or folder.

    Returns:
        The hash; "" where a file cannot be read.
    """
    try:
        return hash_of([f"{key}={Path(inputs[key]).absolute().parts[-2:]}" for key in sorted(inputs)], _files(inputs))
    except (OSError, ValueError):  # a header that names no data
        return ""


def hash_of(texts: Iterable[str], files: Iterable[Path]) -> str:
    """Return a hash (SHA-256) of texts and of files' content, in their order.

    Raises:
        OSError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    for path in files:
        one = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(AT_ONCE):
                one.update(block)
        whole.update(one.digest())
    return whole.hexdigest()


def _files(inputs: Mapping[str, str]) -> list[Path]:
    """Return the files of a case, and those that belong to them."""
    found: list[Path] = []
    for key in sorted(inputs):
        path = Path(inputs[key])
        for file in inner_volumes(path) if path.is_dir() else [path]:
            beside = (data_file(file) if is_meta_image(file) else None, names_file(file))
            found += [file, *(one for one in beside if one is not None)]
    return found
