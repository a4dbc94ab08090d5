"""Meshes of a run against the surfaces of its voxels."""

import numpy as np
import pytest
import trimesh

from scripts.report.mesh_check import check, meshes, voxel_surface
from scripts.report.run_folder import RunError
from tests.helpers.made_run import write_run

OBLIQUE = np.array([[0.0, 0.9, 0.3, 5.0], [-1.1, 0.1, 0.0, -3.0], [0.1, -0.2, 1.9, 2.0], [0.0, 0.0, 0.0, 1.0]])
FLIPPED = np.diag([-1.0, 1.0, 2.0, 1.0])


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, FLIPPED])
def test_the_surface_of_voxels_is_closed_and_outward_on_any_grid(affine):
    mask = np.zeros((6, 7, 5), bool)
    mask[0:3, 2:5, 1:5] = True  # touches the border
    surface = voxel_surface(mask, affine)
    volume = mask.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert surface.is_watertight and 0.7 * volume < surface.volume < volume
    centre = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    np.testing.assert_allclose(surface.center_mass, centre, atol=1e-3)


def test_a_mesh_is_compared_with_its_voxels(tmp_path):
    run = write_run(tmp_path, np.diag([1.0, 1.0, 1.5, 1.0]))
    rows = {line.split("|")[1].strip(): line.split("|") for line in meshes(str(run)).splitlines()}
    for name in ("ball", "egg", "pill"):
        _, _, count, closed, triangles, off, before, after, area, _ = rows[name]
        assert int(count) == int(closed) == 1 and float(off) < 6.0
        assert int(triangles) == len(trimesh.load(run / "a" / f"a_{name}.stl").faces)
        assert float(before) > 20.0 and float(after) < 2.0 and 0.85 < float(area) < 0.97


def test_a_mesh_inside_out_is_not_outward():
    mask = np.zeros((8, 8, 8), bool)
    mask[2:6, 2:6, 2:6] = True
    voxels = voxel_surface(mask, np.eye(4))
    found = check("cube", voxels, voxels, mask, np.eye(4))
    assert found.closed and found.area_ratio == 1.0 and found.rough[0] == found.rough[1]
    turned = voxels.copy()
    turned.invert()
    assert not check("cube", turned, voxels, mask, np.eye(4)).closed


def test_a_picture_is_drawn(tmp_path):
    run = write_run(tmp_path, np.eye(4))
    meshes(str(run), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_are_compared(tmp_path):
    run, other = (write_run(tmp_path / name, np.eye(4)) for name in ("one", "other"))
    ball = trimesh.load(other / "a" / "a_ball.stl")
    ball.apply_translation([3.0, 0.0, 0.0])
    ball.export(other / "a" / "a_ball.stl")
    lines = meshes(str(run), str(tmp_path / "a.png"), str(other)).splitlines()
    rows = {line.split("|")[1].strip(): [float(cell) for cell in line.split("|")[2:-1]] for line in lines[2:]}
    assert rows["ball"][7:] == pytest.approx([0.0, 1.5, 2.85, 3.0], abs=0.05)  # 3 mm times the cosine, spread evenly
    assert rows["egg"][7] == rows["egg"][5] and max(rows["egg"][8:]) < 0.01
    assert (tmp_path / "a.png").is_file()
    (other / "a" / "a_egg.stl").unlink()
    with pytest.raises(ValueError, match="no mesh of egg of the case a"):
        meshes(str(run), other_dir=str(other))


def test_a_run_without_meshes_is_refused(tmp_path):
    with pytest.raises(RunError):
        meshes(str(tmp_path))
    run = write_run(tmp_path, np.eye(4))
    for file in [*(run / "a").glob("*.stl"), *(run / "a").glob("*.ply")]:
        file.unlink()
    with pytest.raises(ValueError, match="no mesh"):
        meshes(str(run))
