"""The refined label map on one more grid: which one, what is said of it, and what it is not."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.organ.pack import OrganPack
from scripts.refine import fine_mask
from scripts.refine.fine_mask import FineMaskd
from tests.helpers.volumes import save

REFINER = SimpleNamespace(pack=OrganPack.load("hippocampus"))
INSIDE = slice(8, 16)
AWAY = [[1, 0, 0, 300], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def case(**more):
    """A block of 8 x 8 x 4 voxels of 1 x 1 x 2 mm, of two labels, as the chain leaves it."""
    labels = np.zeros((24, 24, 12), np.int32)
    labels[INSIDE, INSIDE, 4:8] = 1
    labels[INSIDE, 12:16, 4:8] = 2
    pred = MetaTensor(torch.as_tensor(labels[None]), affine=torch.as_tensor(np.diag([1.0, 1.0, 2.0, 1.0])))
    return {"pred": pred, "pred_shapes": [], **more}


def fine_of(data, **options):
    result = FineMaskd("pred", REFINER, grid_key="grid", **options)(data)
    return result.get("pred_fine"), result.get("pred_fine_said")


def test_nothing_is_done_where_nothing_is_asked_for():
    data = case(grid="never opened")
    assert FineMaskd("pred", REFINER)(data).keys() == data.keys()
    assert fine_of(case()) == (None, None)


def test_the_grid_is_that_of_the_file(tmp_path):
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = 20.0
    file = save(tmp_path / "thin.nii.gz", np.zeros((20, 24, 24), np.int16), affine)
    fine, said = fine_of(case(grid=str(file)))
    assert said == [] and fine.shape == (1, 20, 24, 24)
    np.testing.assert_allclose(fine.affine, affine)
    world = nib.affines.apply_affine(affine, np.argwhere(np.asarray(fine[0]) > 0))
    np.testing.assert_allclose(world.min(axis=0), (8, 8, 7), atol=1.0)
    np.testing.assert_allclose(world.max(axis=0), (15, 15, 15), atol=1.0)
    assert set(np.unique(fine)) == {0, 1, 2}


def test_what_lies_beyond_the_grid_is_named_with_its_file(tmp_path):
    file = save(tmp_path / "half.nii.gz", np.zeros((24, 12, 24), np.int16))
    fine, said = fine_of(case(grid=str(file)))
    assert fine.any() and said == [f"the fine mask lacks 50 % of hippocampus, which lies beyond the grid of {file}"]
    almost = save(tmp_path / "almost.nii.gz", np.zeros((24, 24, 13), np.int16))
    assert "lacks 25 % of" in fine_of(case(grid=str(almost)))[1][0]


@pytest.mark.parametrize("kind", ["away", "missing", "broken", "4D"])
def test_without_a_grid_of_use_there_is_no_fine_mask_and_the_file_is_named(tmp_path, kind):
    file = tmp_path / "image.nii.gz"
    if kind == "away":
        save(file, np.zeros((9, 9, 9), np.int16), np.array(AWAY))
    elif kind == "broken":
        file.write_bytes(b"no volume")
    elif kind == "4D":
        save(file, np.zeros((9, 9, 9, 5), np.int16))
    fine, (said,) = fine_of(case(grid=str(file)))
    assert fine is None and said.startswith("no fine mask: ") and str(file) in said
    assert kind != "away" or "shows nothing of the refined mask: give a file that lies where the mask does" in said


def test_a_grid_of_too_many_voxels_is_refused_by_its_size(monkeypatch):
    monkeypatch.setattr(fine_mask, "MOST_VOXELS", 2_000_000)
    fine, said = fine_of(case(), fine_mm=0.1)
    assert fine is None and said == [
        "no fine mask: fine_mm 0.1 would be 240 x 240 x 240 voxels, more than 2 million: ask for fewer"
    ]
    assert fine_of(case(), fine_mm=0.5)[0].shape == (1, 48, 48, 48)


def test_a_map_without_any_voxel_has_an_empty_fine_mask():
    data = case()
    data["pred"] = data["pred"] * 0
    fine, said = fine_of(data, fine_mm=1.0)
    assert fine.shape == (1, 24, 24, 24) and not fine.any() and said == []
