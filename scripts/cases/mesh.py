"""Mesh files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from trimesh.exchange import ply, stl

from .files import whole_file


def write_mesh(path: str | Path, mesh: trimesh.Trimesh, vertex_data: dict[str, ArrayLike] | None = None) -> Path:
    """Write a mesh as binary STL or PLY; the file appears whole or not at all.

    Args:
        path: ends in ``.stl`` or ``.ply``; missing folders are made.
        mesh: vertices in the frame to be stored, usually world mm (RAS+).
        vertex_data: PLY only: name to (V,) or (V, k) numbers, one a vertex.

    Returns:
        The path written.

    Raises:
        ValueError: for another ending, vertex data in an STL, or data of the wrong length.
    """
    target = Path(path)
    ending = target.suffix.lower()
    attributes = {name: np.ascontiguousarray(values) for name, values in (vertex_data or {}).items()}
    for name, values in attributes.items():
        if len(values) != len(mesh.vertices):
            raise ValueError(f"vertex data {name!r} has {len(values)} rows, the mesh {len(mesh.vertices)} vertices")
    if ending == ".stl":
        if attributes:
            raise ValueError("STL holds no vertex data; use .ply")
        payload = stl.export_stl(mesh)
    elif ending == ".ply":
        plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        plain.vertex_attributes.update(attributes)
        payload = ply.export_ply(plain, encoding="binary", vertex_normal=False, include_attributes=True)
    else:
        raise ValueError(f"cannot write {target.name}: use .stl or .ply")
    with whole_file(target) as temporary:
        temporary.write_bytes(payload)
    return target
