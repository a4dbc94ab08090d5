"""Arrays on disk under keys of what they were made from, so that an interrupted preparation goes on where it stood."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ..cases.files import whole_file

CACHE_VERSION = 2


def digest(*parts: object) -> str:
    """Hash of JSON-serialisable parts and of the cache's version."""
    return hashlib.sha256(json.dumps([CACHE_VERSION, *parts], sort_keys=True).encode()).hexdigest()


def cache_file(cache_dir: Path, kind: str, key: str) -> Path:
    """Where arrays of a kind stand under a key."""
    return cache_dir / f"{kind}-{key[:24]}.npz"


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz that appears whole or not at all."""
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote."""
    with np.load(path) as data:
        return {name: data[name] for name in data.files}
