"""docs/examples/overlay: another bundle, with a `scripts` package of its own, refines what it segments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.cases.read import read_label_map
from scripts.refine.transforms import RefineShape
from tests.helpers.mean_shape import damaged, dice, mean_shape
from tests.helpers.small_pack import brightness_weights

NET = """
import torch


class BrightnessNet(torch.nn.Conv3d):
    def __init__(self):
        super().__init__(1, 3, 1)
"""

CONFIG = {  # the layout of the model zoo's spleen_ct_segmentation
    "imports": ["$import glob"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "$@bundle_root + '/images'",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    "device": "$torch.device('cpu')",
    "network_def": {"_target_": "scripts.net.BrightnessNet"},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0], "mode": "bilinear"},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 2, "b_min": -1, "b_max": 1},
        ],
    },
    "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 48], "sw_batch_size": 1},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "trans"},
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
    },
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
    },
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
    "run": ["$@evaluator.run()"],
}


@pytest.fixture
def other_bundle(tmp_path) -> Path:
    """A bundle whose network calls dark voxels background and bright ones label 1 or 2, with one image to segment."""
    bundle = tmp_path / "brightness_segmentation"
    for folder in ("configs", "models", "scripts", "images"):
        (bundle / folder).mkdir(parents=True)
    (bundle / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    (bundle / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1"}))
    (bundle / "scripts" / "__init__.py").touch()
    (bundle / "scripts" / "net.py").write_text(NET)
    torch.save(brightness_weights(), bundle / "models" / "model.pt")
    truth, affine = mean_shape("flipped")
    nib.save(nib.Nifti1Image(damaged(truth, affine).astype(np.float32), affine), bundle / "images" / "a.nii.gz")
    return bundle


@pytest.mark.slow
def test_another_bundle_refines_its_masks_by_the_overlay(bundle_root, other_bundle, tmp_path):
    (tmp_path / "implicit_shape_refinement").symlink_to(bundle_root)
    overlay = bundle_root / "docs" / "examples" / "overlay" / "refine_overlay.yaml"
    run = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run"]
        + ["--config_file", f"['configs/inference.json', '{overlay}']", "--preset", "linear"],
        cwd=other_bundle,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    initial, refined = (other_bundle / "eval" / "a" / f"a_{name}.nii.gz" for name in ("trans", "refined"))
    before, after, image = (nib.load(path) for path in (initial, refined, other_bundle / "images" / "a.nii.gz"))
    assert after.shape == before.shape == image.shape
    np.testing.assert_allclose(after.affine, image.affine, atol=1e-5)
    assert after.get_data_dtype() == np.uint8

    alone, shapes = RefineShape("hippocampus", "linear")(read_label_map(initial))
    assert not shapes[0].failure
    np.testing.assert_array_equal(np.asarray(after.dataobj), alone[0].numpy())
    truth = mean_shape("flipped")[0] > 0
    assert dice(np.asarray(after.dataobj) > 0, truth) > dice(np.asarray(before.dataobj) > 0, truth) + 0.02
