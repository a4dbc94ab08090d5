"""Mesh files, with their frame in them where 3D Slicer looks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from trimesh.exchange import obj, ply, stl

from .files import whole_file
from .vtp_file import vtp_bytes

RAS, LPS = "RAS", "LPS"  # x to the patient's right or left, y to the front or back, z to the head
SPACES = (RAS, LPS)
SCENE = "glb"  # all surfaces of a case in one file, see `write_scene`
FORMATS = ("stl", "ply", "obj", "vtp", SCENE)
READ_MESHES = (".stl", ".ply")  # endings of what `read_mesh` takes
UNCERTAINTY = "uncertainty_mm"  # a vertex's, one standard deviation
_SPACE = "SPACE="  # in a header or comment, a VTP's field data; 3D Slicer takes a mesh without it for LPS
_UNITS = "UNITS=mm"
_STL_HEADER = 80  # bytes


def check_space(space: str) -> str:
    """Return the frame of mesh files, in capitals.

    Raises:
        ValueError: there is no such frame.
    """
    known = str(space).upper()
    if known not in SPACES:
        raise ValueError(f"mesh_space '{space}' is no frame of meshes: use {' or '.join(SPACES)}")
    return known


def check_format(name: str) -> str:
    """Return the format of mesh files, in small letters.

    Raises:
        ValueError: it is not written.
    """
    known = str(name).lower().removeprefix(".")
    if known not in FORMATS:
        raise ValueError(f"mesh_format '{name}' is not written: choose one of {', '.join(FORMATS)}")
    return known


def write_mesh(
    path: str | Path, mesh: trimesh.Trimesh, vertex_data: dict[str, ArrayLike] | None = None, space: str = RAS
) -> Path:
    """Write a mesh; the file names its frame and its unit, mm, and appears whole or not at all.

    Args:
        path: ends in ``.stl`` or ``.ply`` (both binary), ``.obj`` or ``.vtp``; missing folders are made.
        mesh: vertices in world mm (RAS+).
        vertex_data: PLY and VTP only: name to (V,) or (V, k) numbers, one a vertex; stored as they are.
        space: frame of the file's vertices: "RAS" or "LPS".

    Returns:
        The path written.

    Raises:
        ValueError: for another ending, vertex data in an STL or OBJ, or data of the wrong length.
    """
    target = Path(path)
    ending = target.suffix.lower()
    attributes = {name: np.ascontiguousarray(values) for name, values in (vertex_data or {}).items()}
    for name, values in attributes.items():
        if len(values) != len(mesh.vertices):
            raise ValueError(
                f"vertex data {name!r} has {len(values)} rows, the mesh {len(mesh.vertices)}: give one a vertex"
            )
    space = check_space(space)
    stored = _in_space(mesh, space)
    if attributes and ending in (".stl", ".obj"):
        raise ValueError(f"{ending[1:].upper()} holds no vertex data; use .ply or .vtp")
    if ending == ".stl":
        header = f"binary STL in mm, {_SPACE}{space}".encode().ljust(_STL_HEADER)
        payload = header + stl.export_stl(stored)[_STL_HEADER:]
    elif ending == ".ply":
        stored.vertex_attributes.update(attributes)
        payload = ply.export_ply(stored, encoding="binary", vertex_normal=False, include_attributes=True)
        start, ending_of_format, rest = payload.partition(b"1.0\n")
        payload = start + ending_of_format + f"comment {_SPACE}{space}\ncomment {_UNITS}\n".encode() + rest
    elif ending == ".obj":
        text = obj.export_obj(stored, include_normals=False, include_color=False, header=f"{_SPACE}{space}\n# {_UNITS}")
        payload = f"{text.strip()}\n".encode()
    elif ending == ".vtp":
        payload = vtp_bytes(stored, attributes, dict(fact.split("=") for fact in (f"{_SPACE}{space}", _UNITS)))
    else:
        raise ValueError(f"cannot write {target.name}: use .stl, .ply, .obj or .vtp")
    with whole_file(target) as temporary:
        temporary.write_bytes(payload)
    return target


def read_mesh(path: str | Path, join: bool = False) -> trimesh.Trimesh:
    """Read an STL or PLY mesh into world mm (RAS+), whichever frame it names; without a word of it, it is RAS.

    Args:
        path: ends in ``.stl`` or ``.ply``.
        join: whether vertices in the same place are made one; those of an STL are three a triangle.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:  # trimesh cannot take every name in every locale
        ending = Path(path).suffix.lower()
        header = file.read(_STL_HEADER if ending == ".stl" else 4096).partition(b"end_header")[0]
        file.seek(0)
        mesh = trimesh.load_mesh(file, file_type=ending[1:], process=join)
    return _in_space(mesh, LPS) if f"{_SPACE}{LPS}".encode() in header else mesh


def vertex_numbers(mesh: trimesh.Trimesh, name: str) -> np.ndarray | None:
    """Return numbers (V,) that a binary PLY, as `read_mesh` read it, has of its vertices; None where it has no such."""
    stored = mesh.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    names = getattr(getattr(stored, "dtype", None), "names", None) or ()
    return np.ravel(stored[name]) if name in names else None


def _in_space(mesh: trimesh.Trimesh, space: str) -> trimesh.Trimesh:
    """Return a copy of a mesh turned from RAS to a frame, or back; half a turn about z keeps faces outward."""
    turned = mesh.copy()
    if space == LPS:
        turned.vertices = turned.vertices * (-1.0, -1.0, 1.0)
    return turned
