from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml

from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.organ.pack import MODELS
from scripts.refine.chain import Refiner
from scripts.refine.settings import RefineSettings
from scripts.refine.stages import Sampled
from scripts.refine.tim import template_posterior


def test_posterior_tells_an_island_from_the_organ():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    points = np.concatenate([template[::3], template[::9] * 0.15 + [1.6, 0, 0]])
    posterior = template_posterior(points, template, 500, seed=0)
    organ, island = posterior[: len(template[::3])], posterior[len(template[::3]) :]
    assert np.median(island) < 0.2 * np.median(organ)
    assert (posterior >= 0).all() and np.isfinite(posterior).all()


def test_posterior_sums_to_the_template_it_explains():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    posterior = template_posterior(template[::2], template, 400, seed=0)
    assert 0.85 * 400 < posterior.sum() <= 400.0 + 1e-6


def test_the_same_seed_gives_the_same_numbers():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    one, two = (template_posterior(template[::2] * 1.1, template, 300, seed=4) for _ in range(2))
    assert (one == two).all()


def test_points_that_reach_nothing_of_the_template_have_no_posterior():
    template = trimesh.creation.icosphere(subdivisions=3, radius=0.6).vertices
    assert (template_posterior(template[::2] + [40.0, 0, 0], template, 300, seed=0) == 0).all()


def copy_pack(folder: Path, **settings) -> Path:
    """Copy the thorax pack's files, with other settings, into a folder."""
    folder.mkdir()
    for file in (MODELS / "thorax").glob("*.safetensors"):
        (folder / file.name).symlink_to(file)
    pack = yaml.safe_load((MODELS / "thorax" / "organ.yaml").read_text()) | settings
    (folder / "organ.yaml").write_text(yaml.safe_dump(pack))
    return folder


def thorax_structures() -> list[dict]:
    return yaml.safe_load((MODELS / "thorax" / "organ.yaml").read_text())["structures"]


def test_a_structure_may_have_settings_of_its_own(tmp_path):
    structures = thorax_structures()
    structures[2]["refine"] = {"samples": 321}
    steps = Refiner(copy_pack(tmp_path / "own", structures=structures)).steps
    assert (steps["trachea"].tim.samples, steps["aorta"].tim.samples) == (321, RefineSettings.load().samples)


def test_a_voxel_head_that_lacks_a_structure_is_refused(tmp_path):
    folder = copy_pack(tmp_path / "own")
    (folder / "evidence.safetensors").unlink(missing_ok=True)
    VoxelHead({"heart": VoxelNet(), "aorta": VoxelNet()}, 2.0).save(folder / "evidence.safetensors")
    with pytest.raises(ValueError, match="does not know oesophagus, trachea: train it anew"):
        Refiner(folder)
    assert Refiner(folder, see=False).head is None


@pytest.mark.parametrize("wanted", [True, False])
def test_a_structure_may_do_without_the_joint_model(tmp_path, wanted):
    structures = thorax_structures()
    structures[2]["refine"] = {"context": wanted}
    refiner = Refiner(copy_pack(tmp_path / "own", structures=structures))
    label_map, affine = np.zeros((30, 30, 60), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])
    label_map[12:18, 12:18, 5:55] = 3
    (trachea,) = [
        one for one in refiner.sample(refiner.align(label_map, affine), label_map, affine) if isinstance(one, Sampled)
    ]
    assert (trachea.context is not None) is wanted


def test_a_joint_model_of_other_structures_is_refused(tmp_path):
    structures = thorax_structures()
    structures[1] |= {"name": "whole heart", "prior": "heart.safetensors"}
    with pytest.raises(ValueError, match="joint.safetensors does not know whole heart: train it anew"):
        Refiner(copy_pack(tmp_path / "renamed", structures=structures, sources={}))
