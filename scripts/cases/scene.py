"""One .glb file with all surfaces of a case: a name and a colour each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import trimesh
from trimesh.exchange.gltf import export_glb
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from .files import whole_file

ROOT = "world_RAS_mm"  # the node above all organs; below it vertices are in RAS+ millimetres
# RAS mm → glTF's own frame: metres, y up, z to where the figure looks, so −x to its right (glTF 2.0, 3.4).
TO_GLTF = np.array([[-0.001, 0, 0, 0], [0, 0, 0.001, 0], [0, 0.001, 0, 0], [0, 0, 0, 1.0]])
FACTS = {"SPACE": "RAS", "UNITS": "mm"}  # of the vertices, before the root's matrix
ROUGHNESS = 0.8


def write_scene(
    path: str | Path, meshes: Mapping[str, trimesh.Trimesh], colours: Sequence[tuple[int, int, int]]
) -> Path:
    """Write surfaces as one glTF scene in its binary form.

    glTF is in metres with y up. The vertices are stored in RAS+ millimetres, as in the other formats, and the scene's
    root has the matrix that takes them to glTF's frame: viewers show the patient upright and in true size.

    Args:
        path: ends in ``.glb``; missing folders are made.
        meshes: name → surface in world mm (RAS+), at least one.
        colours: (red, green, blue), 0 to 255, one a surface.

    Returns:
        The path written.
    """
    scene = trimesh.Scene(metadata=dict(FACTS))
    for (name, mesh), colour in zip(meshes.items(), colours, strict=True):
        part = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, metadata=dict(FACTS))
        paint = PBRMaterial(name, baseColorFactor=colour, metallicFactor=0.0, roughnessFactor=ROUGHNESS)
        part.visual = TextureVisuals(material=paint)
        scene.add_geometry(part, node_name=name, geom_name=name)
    payload = export_glb(scene, include_normals=True, unitize_normals=True, tree_postprocessor=_finish)
    with whole_file(path) as temporary:
        temporary.write_bytes(payload)
    return Path(path)


def _finish(tree: dict) -> None:
    """Set a node with the matrix (glTF lists it by columns) above all organs, say so in the file, and mend colours."""
    scene = tree["scenes"][0]
    root = {"name": ROOT, "matrix": TO_GLTF.T.reshape(-1).tolist(), "children": scene["nodes"], "extras": dict(FACTS)}
    tree["nodes"].append(root)
    scene["nodes"] = [len(tree["nodes"]) - 1]
    tree["asset"]["extras"] = {**FACTS, "note": "vertices are RAS mm; the root's matrix makes them metres, y up"}
    for material in tree["materials"]:
        paint = material["pbrMetallicRoughness"]
        paint["baseColorFactor"] = [*map(_linear, paint["baseColorFactor"][:3]), 1.0]


def _linear(share: float) -> float:
    """Return a channel of a screen's colour (sRGB, 0 to 1) as glTF states it: linear light."""
    return round(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4, 6)
