"""A U-Net planned from the data of a pack that describes none."""

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from scripts.organ.pack import OrganError, OrganPack
from scripts.unet import plan
from scripts.unet.images import too_large
from scripts.unet.network import build_unet
from scripts.unet.plan import pack_with_unet
from tests.helpers.small_pack import write_data, write_pack

KEYS = ("spacing_mm", "intensity", "patch_size", "network")


def bare_pack(folder, **settings):
    """A pack that a training of priors has made: names and labels, nothing about images."""
    file = write_pack(folder, **settings) / "organ.yaml"
    kept = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key not in KEYS}
    file.write_text(f"# by hand\n{yaml.safe_dump(kept)}")
    return folder


def test_a_network_fits_the_data_and_stands_in_the_pack(tmp_path):
    data = write_data(tmp_path / "data", 4, np.diag([-1.0, 1.0, 2.0, 1.0]))
    folder = bare_pack(tmp_path / "pack")
    pack = pack_with_unet(str(folder), data)
    assert pack == OrganPack.load(folder) and (folder / "organ.yaml").read_text().startswith("# by hand\n")
    assert (
        pack.spacing_mm == (1.0, 1.0, 2.0) and pack.image_mm == (16.0, 14.0, 30.0) and pack.intensity.kind == "zscore"
    )
    assert pack.patch_size.train == pack.patch_size.infer == (16, 16, 16)
    assert build_unet(pack)(torch.zeros(1, 1, *pack.patch_size.train)).shape[1] == 3
    written = (folder / "organ.yaml").read_bytes()
    assert b"&" not in written  # no marks of YAML's in a file that people edit
    assert pack_with_unet(str(folder), data) == pack and (folder / "organ.yaml").read_bytes() == written


def test_no_image_of_the_training_is_called_too_large(tmp_path):
    """Nor are those of a micro-CT refused, which are smaller than 1 mm."""
    data = write_data(tmp_path / "data", 4, np.diag([0.03, 0.03, 0.03, 1.0]))
    long = nib.load(data / "images" / "box_0.nii.gz").get_fdata().repeat(10, 2).astype(np.float32)
    affine = np.diag([0.03, 0.03, 0.4, 1.0])
    nib.save(nib.Nifti1Image(long, affine), data / "images" / "box_0.nii.gz")
    nib.save(nib.Nifti1Image((long > 0.5).astype(np.uint8), affine), data / "labels" / "box_0.nii.gz")
    pack = pack_with_unet(str(bare_pack(tmp_path / "pack")), data)
    assert pack.image_mm is not None and pack.image_mm[:2] == (1.0, 1.0)
    assert too_large(long.shape, affine, pack.image_mm) == ""


def test_ct_gets_a_window_of_what_is_inside_the_labels_and_large_images_a_coarser_spacing(tmp_path):
    data = write_data(tmp_path / "data", 2)
    image = np.full((16, 14, 400), -1000.0, np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[3:12, 2:11, 4:300] = 1
    image[labels > 0] = np.linspace(-50, 150, int((labels > 0).sum()))
    for name in ("box_0.nii.gz", "box_1.nii.gz"):
        nib.save(nib.Nifti1Image(image, np.eye(4)), data / "images" / name)
        nib.save(nib.Nifti1Image(labels, np.eye(4)), data / "labels" / name)
    pack = pack_with_unet(str(bare_pack(tmp_path / "pack")), data)
    assert pack.intensity.kind == "window" and (pack.intensity.low, pack.intensity.high) == (-49, 149)
    assert pack.spacing_mm == pytest.approx((400 / 192,) * 3, abs=1e-3)
    assert pack.patch_size.train[2] == 64


def test_what_the_pack_says_stays(tmp_path):
    data = write_data(tmp_path / "data", 2)
    file = bare_pack(tmp_path / "pack") / "organ.yaml"
    file.write_text(file.read_text() + "spacing_mm: [1.5, 1.5, 1.5]\n")
    assert pack_with_unet(str(file.parent), data).spacing_mm == (1.5, 1.5, 1.5)


def test_two_runs_that_plan_at_once_write_one_plan(tmp_path, monkeypatch):
    data = write_data(tmp_path / "data", 2)
    folder = bare_pack(tmp_path / "pack")
    real = plan.plan

    def meanwhile(*arguments):
        monkeypatch.setattr(plan, "plan", real)
        plan.pack_with_unet(str(folder), data)
        return real(*arguments)

    monkeypatch.setattr(plan, "plan", meanwhile)
    assert pack_with_unet(str(folder), data).network
    assert (folder / "organ.yaml").read_text().count("# U-Net, planned") == 1


def test_labels_with_gaps_are_refused_with_the_remedy(tmp_path):
    data = write_data(tmp_path / "data", 2)
    structures = [{"name": "boxes", "labels": [1, 4]}]
    folder = bare_pack(tmp_path / "pack", labels={1: "shell", 4: "core"}, structures=structures)
    with pytest.raises(OrganError, match="needs the labels 1 to 2, not .1, 4.: renumber"):
        pack_with_unet(str(folder), data)


def test_without_data_nothing_is_planned(tmp_path):
    folder = bare_pack(tmp_path / "pack")
    assert not pack_with_unet(str(folder), tmp_path / "nothing").network
