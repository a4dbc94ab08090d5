"""A safetensors file, whose header and sizes are checked before anything is built from what they say.

The file's own format makes sure that a tensor is as long as its shape says. Here the JSON that the bundle puts into the
header, such as a network's width, is held against the shapes, so that a small file cannot ask for a large network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


class BrokenFile(ValueError):
    """A file does not hold what it must; the message names it and the remedy."""


@dataclass(frozen=True)
class TensorFile:
    """An open safetensors file.

    Attributes:
        path: its path, for messages.
        header: the JSON in its header.
        shapes: tensor's name → shape.
    """

    path: Path
    header: dict[str, Any]
    shapes: Shapes
    _stream: Any

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors, on the CPU."""
        return {name: self._stream.get_tensor(name) for name in self.shapes}

    def broken(self, reason: object) -> BrokenFile:
        """Return the error that says why the file cannot be used."""
        return BrokenFile(f"{self.path} is broken: {reason}. Copy it again or train it anew.")

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the file where a condition does not hold.

        Raises:
            BrokenFile: it does not.
        """
        if not condition:
            raise self.broken(reason)

    def require_shapes(self, expected: Shapes) -> None:
        """Refuse the file where it lacks a tensor, or one has another shape than expected.

        Raises:
            BrokenFile: so it is.
        """
        for name, shape in expected.items():
            found = self.shapes.get(name)
            self.require(found is not None, f"it lacks the tensor {name}")
            self.require(found == tuple(shape), f"{name} has the shape {found}, its header says {tuple(shape)}")

    def whole(self, section: Mapping[str, Any], key: str, most: int) -> int:
        """Return a whole number from 1 to `most` of the header.

        Raises:
            BrokenFile: it is none.
        """
        value = section.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.broken(f"{key} is no whole number from 1 to {most}")
        return value

    def length(self, section: Mapping[str, Any], key: str, most: float = 1e4) -> float:
        """Return a positive number of the header, such as a length in mm.

        Raises:
            BrokenFile: it is none.
        """
        value = section.get(key)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value <= most:
            raise self.broken(f"{key} is no number above 0 and up to {most:g}")
        return float(value)


@contextmanager
def open_tensors(path: str | Path, key: str) -> Iterator[TensorFile]:
    """Open a safetensors file whose header has JSON under `key`.

    Raises:
        BrokenFile: it is no such file.
    """
    file = Path(path)
    try:
        stream = safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise BrokenFile(f"{file} is no safetensors file ({error}): copy it again or train it anew") from error
    with stream:
        try:
            header = json.loads((stream.metadata() or {}).get(key, "null"))
        except (ValueError, RecursionError) as error:
            raise BrokenFile(f"{file} is broken: its header is no JSON. Copy it again or train it anew.") from error
        shapes = {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
        opened = TensorFile(file, header, shapes, stream)
        opened.require(isinstance(header, dict), f"its header has no '{key}'")
        yield opened
