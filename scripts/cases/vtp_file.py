"""VTK's XML PolyData (.vtp): a mesh, what is known of its vertices, and its frame and unit where 3D Slicer looks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

import numpy as np
import trimesh

TYPES = {"f": "Float", "i": "Int", "u": "UInt"}
RGB = ("red", "green", "blue")  # three columns that VTK's programs show as one colour


def vtp_bytes(mesh: trimesh.Trimesh, vertex_data: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> bytes:
    """Return a mesh as a .vtp file: binary (base64), little-endian, vertices float32.

    The requirements have no writer of this format (VTK itself is as large as torch's CPU build), so this one writes
    the little of it that a closed surface needs.

    Args:
        mesh: in the frame and unit of the file.
        vertex_data: name → (V,) or (V, k) numbers; red, green and blue become one array `RGB`.
        facts: name → text, which become field data, such as SPACE → RAS.
    """
    columns = dict(vertex_data)
    if all(name in columns for name in RGB):
        columns = {"RGB": np.stack([columns.pop(name) for name in RGB], axis=1), **columns}
    points = [_array(name, values) for name, values in columns.items()]
    scalars = ' Scalars="RGB"' if "RGB" in columns else ""
    faces = np.asarray(mesh.faces, np.int64)
    fields = [
        f'<DataArray type="String" Name={quoteattr(name)} NumberOfTuples="1" format="ascii">'
        f"{' '.join(str(byte) for byte in (*text.encode(), 0))}</DataArray>"
        for name, text in facts.items()
    ]
    lines = [
        '<?xml version="1.0"?>',
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">',
        "<PolyData>",
        "<FieldData>",
        *fields,
        "</FieldData>",
        f'<Piece NumberOfPoints="{len(mesh.vertices)}" NumberOfPolys="{len(faces)}">',
        f"<PointData{scalars}>",
        *points,
        "</PointData>",
        "<Points>",
        _array("Points", np.asarray(mesh.vertices, np.float32)),
        "</Points>",
        "<Polys>",
        _array("connectivity", faces.reshape(-1)),
        _array("offsets", np.arange(3, 3 * len(faces) + 1, 3, dtype=np.int64)),
        "</Polys>",
        "</Piece>",
        "</PolyData>",
        "</VTKFile>",
        "",
    ]
    return "\n".join(lines).encode()


def _array(name: str, values: np.ndarray) -> str:
    """Return an array's element: the length in bytes, 64 bit, and the numbers behind it, as one base64 text."""
    kind = f"{TYPES[values.dtype.kind]}{8 * values.dtype.itemsize}"
    payload = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(len(payload).to_bytes(8, "little") + payload).decode()
    width = 1 if values.ndim == 1 else values.shape[1]
    head = f'type="{kind}" Name={quoteattr(name)} NumberOfComponents="{width}" format="binary"'
    return f"<DataArray {head}>{text}</DataArray>"
