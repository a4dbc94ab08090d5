"""Mesh files of every format, opened by VTK, which wrote none of them."""

import json
import struct

import numpy as np
import pytest
import trimesh

from scripts.cases.mesh import FORMATS, SCENE, check_format, write_mesh
from scripts.cases.scene import write_scene

pytest.importorskip("vtkmodules", reason="pip install -r requirements-dev.txt")

from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402
from vtkmodules.vtkFiltersCore import vtkFeatureEdges, vtkMassProperties  # noqa: E402
from vtkmodules.vtkIOGeometry import vtkGLTFReader, vtkOBJReader, vtkSTLReader  # noqa: E402
from vtkmodules.vtkIOPLY import vtkPLYReader  # noqa: E402
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader  # noqa: E402

READERS = {"stl": vtkSTLReader, "ply": vtkPLYReader, "obj": vtkOBJReader, "vtp": vtkXMLPolyDataReader}


def egg() -> trimesh.Trimesh:
    """A shape that differs from all its turned and mirrored forms; its thick end lies to the right, front and head."""
    mesh = trimesh.creation.icosphere(3, radius=5.0)
    stretched = mesh.vertices * (1.0, 1.5, 2.0)
    return trimesh.Trimesh(stretched * (1 + 0.03 * stretched.sum(axis=1, keepdims=True)) + (20, -7, 3), mesh.faces)


def read(path):
    """A file's mesh as VTK reads it."""
    reader = READERS[path.suffix[1:]]()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def closed(mesh) -> bool:
    edges = vtkFeatureEdges()
    edges.SetInputData(mesh)
    edges.FeatureEdgesOff()
    edges.Update()
    return edges.GetOutput().GetNumberOfCells() == 0


def signed_volume(mesh) -> float:
    points, faces = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float), vtk_to_numpy(mesh.GetPolys().GetData())
    a, b, c = (points[corner] for corner in faces.reshape(-1, 4)[:, 1:].T)
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("space", ["RAS", "LPS"])
@pytest.mark.parametrize("name", sorted(READERS))
def test_another_program_reads_a_closed_outward_surface(tmp_path, name, space):
    mesh = read(write_mesh(tmp_path / f"a.{name}", egg(), space=space))
    assert mesh.GetNumberOfPolys() == len(egg().faces) and closed(mesh)
    assert signed_volume(mesh) == pytest.approx(egg().volume, rel=1e-4)
    mass = vtkMassProperties()
    mass.SetInputData(mesh)
    assert mass.GetVolume() == pytest.approx(egg().volume, rel=1e-4)
    lower, upper = egg().bounds * ((1, 1, 1) if space == "RAS" else (-1, -1, 1))
    np.testing.assert_allclose(
        np.reshape(mesh.GetBounds(), (3, 2)), np.sort(np.stack([lower, upper], 1)), rtol=0, atol=1e-4
    )


def test_vtp_has_frame_unit_colours_and_numbers(tmp_path):
    count = len(egg().vertices)
    places = np.linspace(0, 1, count).astype(np.float32)
    colours = {name: np.full(count, n, np.uint8) for n, name in enumerate(("red", "green", "blue"))}
    mesh = read(write_mesh(tmp_path / "a.vtp", egg(), {**colours, "template_x": places}, "LPS"))
    facts = {name: mesh.GetFieldData().GetAbstractArray(name).GetValue(0) for name in ("SPACE", "UNITS")}
    assert facts == {"SPACE": "LPS", "UNITS": "mm"}
    np.testing.assert_array_equal(vtk_to_numpy(mesh.GetPointData().GetScalars()), np.tile([0, 1, 2], (count, 1)))
    np.testing.assert_array_equal(vtk_to_numpy(mesh.GetPointData().GetArray("template_x")), places)


def test_vtp_takes_any_kind_of_number(tmp_path):
    rows = {"a": np.arange(642), "b": np.arange(642, dtype=">f8"), "c": np.ones((642, 3), np.int16)}
    mesh = read(write_mesh(tmp_path / "a.vtp", egg(), rows))
    for name, values in rows.items():
        np.testing.assert_array_equal(vtk_to_numpy(mesh.GetPointData().GetArray(name)), values)


@pytest.fixture
def scene(tmp_path):
    ball = trimesh.creation.icosphere(2, radius=4.0)
    ball.apply_translation((-30, 0, 0))
    return write_scene(tmp_path / "a.glb", {"liver": egg(), "left kidney": ball}, [(130, 33, 10), (0, 255, 99)])


def read_scene(path) -> dict[str, np.ndarray]:
    """Name → vertices (V, 3) of a scene in its own frame, as VTK reads it."""
    reader = vtkGLTFReader()
    reader.SetFileName(str(path))
    reader.ApplyDeformationsToGeometryOn()
    reader.Update()
    return reader.GetOutput()


def leaves(block, name="") -> list[tuple[str, object]]:
    if not block.IsA("vtkMultiBlockDataSet"):
        return [(name, block)]
    found = []
    for n in range(block.GetNumberOfBlocks()):
        meta = block.GetMetaData(n)
        own = meta.Get(block.NAME()) if meta is not None and meta.Has(block.NAME()) else name
        found += leaves(block.GetBlock(n), own)
    return found


def test_a_scene_stands_upright_in_metres(scene):
    """glTF: y up, the figure looks along +z, and its right hand is on the side of −x."""
    parts = [np.array(vtk_to_numpy(part.GetPoints().GetData())) for _, part in leaves(read_scene(scene))]
    expected = egg().vertices
    (liver,) = [part for part in parts if len(part) == len(expected)]
    turned = np.stack([-expected[:, 0], expected[:, 2], expected[:, 1]], axis=1) / 1000
    np.testing.assert_allclose(liver, turned, atol=1e-6)


def test_a_scene_has_names_colours_frame_and_unit(scene):
    payload = scene.read_bytes()
    (length,) = struct.unpack("<I", payload[12:16])
    tree = json.loads(payload[20 : 20 + length])
    assert tree["asset"]["extras"]["UNITS"] == "mm" and tree["asset"]["extras"]["SPACE"] == "RAS"
    assert {node["name"] for node in tree["nodes"]} >= {"liver", "left kidney"}
    assert [mesh["name"] for mesh in tree["meshes"]] == ["liver", "left kidney"]
    first = tree["materials"][tree["meshes"][0]["primitives"][0]["material"]]
    light = np.array(first["pbrMetallicRoughness"]["baseColorFactor"])
    assert first["name"] == "liver" and light[3] == 1.0
    screen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)[:3]
    np.testing.assert_allclose(255 * screen, (130, 33, 10), atol=0.1)


def test_parts_of_a_scene_are_closed_and_outward(scene):
    loaded = trimesh.load(scene)
    assert set(loaded.geometry) == {"liver", "left kidney"}
    assert all(part.is_watertight and part.volume > 0 for part in loaded.dump())
    liver = loaded.geometry["liver"]  # before the matrix: RAS mm
    assert liver.volume == pytest.approx(egg().volume, rel=1e-4)


def test_a_scene_repeats_byte_for_byte(tmp_path):
    one, other = (write_scene(tmp_path / f"{n}.glb", {"a": egg()}, [(1, 2, 3)]) for n in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_formats_are_known_by_name():
    assert check_format("GLB") == SCENE and check_format(".vtp") == "vtp" and set(FORMATS) == {*READERS, SCENE}
    with pytest.raises(ValueError, match="stl, ply, obj, vtp, glb"):
        check_format("fbx")
