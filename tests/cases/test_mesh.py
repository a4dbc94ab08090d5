"""Mesh files: what they hold, in which frame, whole or not at all."""

import numpy as np
import pytest
import trimesh

from scripts.cases import files
from scripts.cases.mesh import read_mesh, write_mesh


def test_mesh_files_round_trip(tmp_path):
    mesh = trimesh.creation.icosphere(1, radius=7.0)
    written = write_mesh(tmp_path / "new" / "a.stl", mesh)
    assert written.read_bytes()[:5] != b"solid" and written.stat().st_size == 84 + 50 * len(mesh.faces)
    assert trimesh.load(written).volume == pytest.approx(mesh.volume, rel=1e-5)
    change = np.linspace(-2, 2, len(mesh.vertices)).astype(np.float32)
    written = write_mesh(tmp_path / "b.ply", mesh, {"change_mm": change})
    loaded = trimesh.load(written, process=False)
    np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    stored = loaded.metadata["_ply_raw"]["vertex"]["data"]["change_mm"]
    np.testing.assert_allclose(np.ravel(stored), change)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.ply", "new"]


def test_mesh_files_repeat_byte_for_byte(tmp_path):
    mesh = trimesh.creation.icosphere(1)
    for ending in ("stl", "ply", "obj", "vtp"):
        one, other = write_mesh(tmp_path / f"a.{ending}", mesh), write_mesh(tmp_path / f"b.{ending}", mesh)
        assert one.read_bytes() == other.read_bytes()


def test_mesh_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    mesh = trimesh.creation.icosphere(1)
    target = tmp_path / "a.stl"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mesh(target, mesh)
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_mesh_files_refuse_what_they_cannot_hold(tmp_path):
    mesh = trimesh.creation.icosphere(1)
    with pytest.raises(ValueError, match="STL"):
        write_mesh(tmp_path / "a.stl", mesh, {"x": np.zeros(len(mesh.vertices))})
    with pytest.raises(ValueError, match="rows"):
        write_mesh(tmp_path / "a.ply", mesh, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="OBJ"):
        write_mesh(tmp_path / "a.obj", mesh, {"x": np.zeros(len(mesh.vertices))})
    with pytest.raises(ValueError, match="use .stl, .ply, .obj or .vtp"):
        write_mesh(tmp_path / "a.off", mesh)
    assert not list(tmp_path.iterdir())


def egg() -> trimesh.Trimesh:
    """A shape that differs from all its turned and mirrored forms."""
    mesh = trimesh.creation.icosphere(2, radius=5.0)
    return trimesh.Trimesh(mesh.vertices * (1.0, 1.5, 2.0) + (20.0, -7.0, 3.0), mesh.faces, process=False)


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_frame_stands_in_the_file_where_slicer_looks(tmp_path, space):
    stl = write_mesh(tmp_path / "a.stl", egg(), space=space).read_bytes()
    assert f"SPACE={space}".encode() in stl[:80] and not stl.startswith(b"solid")
    lines = write_mesh(tmp_path / "a.ply", egg(), space=space).read_bytes().split(b"end_header")[0].split(b"\n")
    assert lines[0] == b"ply" and {f"comment SPACE={space}".encode(), b"comment UNITS=mm"} <= {*lines[2:]}
    lines = write_mesh(tmp_path / "a.obj", egg(), space=space).read_bytes().split(b"\n")
    assert lines[:2] == [f"# SPACE={space}".encode(), b"# UNITS=mm"]


@pytest.mark.parametrize("ending", ["stl", "ply"])
def test_lps_has_x_and_y_the_other_way_and_faces_outward(tmp_path, ending):
    loaded = trimesh.load(write_mesh(tmp_path / f"a.{ending}", egg(), space="lps"), process=False)
    np.testing.assert_allclose(loaded.bounds.mean(axis=0), (-20.0, 7.0, 3.0), atol=1e-5)
    assert loaded.volume == pytest.approx(egg().volume, rel=1e-4)


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_meshes_come_back_as_ras(tmp_path, space):
    stl = read_mesh(write_mesh(tmp_path / "a.stl", egg(), space=space), join=True)
    np.testing.assert_allclose(stl.bounds, egg().bounds, atol=1e-5)
    assert stl.volume == pytest.approx(egg().volume, rel=1e-4)
    places = {"template_x": np.linspace(0, 1, len(egg().vertices)).astype(np.float32)}
    loaded = read_mesh(write_mesh(tmp_path / "a.ply", egg(), places, space))
    np.testing.assert_allclose(loaded.vertices, egg().vertices, atol=1e-5)
    stored = loaded.metadata["_ply_raw"]["vertex"]["data"]["template_x"]
    np.testing.assert_allclose(np.ravel(stored), places["template_x"])


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_stl_comes_back_as_ras_and_closed(tmp_path, space):
    loaded = read_mesh(write_mesh(tmp_path / "a.stl", egg(), space=space), join=True)
    np.testing.assert_allclose(loaded.bounds, egg().bounds, atol=1e-5)
    assert loaded.is_watertight and loaded.volume == pytest.approx(egg().volume, rel=1e-4)


def test_unknown_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="RAS or LPS"):
        write_mesh(tmp_path / "a.stl", egg(), space="XYZ")
    assert not list(tmp_path.iterdir())
