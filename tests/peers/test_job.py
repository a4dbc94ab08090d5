"""The command `reproduce` from end to end on made-up hippocampi, and what it does a second time."""

import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from scripts.organ.pack import MODELS, OrganPack
from scripts.peers.data import read_cases, task_of, write_mask
from scripts.peers.job import is_scored, reproduce
from scripts.peers.networks import PEERS
from tests.helpers.plain_data import write_plain_data

OPTIONS = {"minutes": 0.0, "steps": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four cases, whose images show the organ plainly, and a run of two networks on them."""
    root = tmp_path_factory.mktemp("reproduce")
    write_plain_data(root / "data", 4)
    page = run(root)
    return root, page


def run(root, **further) -> str:
    options = OPTIONS | {"networks": "implicit_unet,iosnet"} | further
    data = options.pop("dataset_dir", root / "data")
    return reproduce(str(data), output_dir=str(root / "out"), **options)


def files(root, part) -> list[str]:
    return sorted(map(str, (root / "data" / part).iterdir()))


def times(root) -> dict[str, int]:
    kept = ("networks/*/checkpoint.pt", "masks/*/*.nii.gz", "refined*/*/eval/summary.csv")
    return {str(file): file.stat().st_mtime_ns for kind in kept for file in (root / "out").glob(kind)}


def test_the_page_says_what_ran_and_has_all_scores(made):
    root, page = made
    text = open(page).read()
    assert f"python -m scripts reproduce --dataset_dir {root}/data --organ hippocampus" in text
    assert "the same 3 images of the training part for at most 8 batches" in text and "seed 0" in text
    assert text.count("| implicit_unet |") == text.count("| iosnet |") == 2 + 4 + 1
    assert "| network | masks | DSC % | NSD % | HD95 mm | ASSD mm | CD ×1000 | EMD | empty |" in text
    assert "of 2 networks" in text and "nan" not in text
    assert "](benchmarks.png)" in text and (root / "out" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


def test_a_pack_without_a_unet_gets_one_planned_from_the_data(made, tmp_path):
    root, _ = made
    shutil.copytree(MODELS / "hippocampus", tmp_path / "pack")
    file = tmp_path / "pack" / "organ.yaml"
    known = yaml.safe_load(file.read_text())
    file.write_text(
        yaml.safe_dump({key: value for key, value in known.items() if key not in ("network", "patch_size")})
    )
    page = run(tmp_path, networks="unet", organ=str(tmp_path / "pack"), dataset_dir=root / "data", with_image=False)
    assert "| unet | refined |" in open(page).read()
    assert OrganPack.load(tmp_path / "pack").network["out_channels"] == 3


def test_masks_are_on_the_image_s_grid_and_near_the_truth(made):
    root, _ = made
    truth = nib.load(root / "data" / "labels" / "case_3.nii.gz")
    for network in ("implicit_unet", "iosnet"):
        (file,) = (root / "out" / "masks" / network).iterdir()
        mask = nib.load(file)
        assert file.name == "case_3.nii.gz" and np.allclose(mask.affine, truth.affine)
        found, true = np.asarray(mask.dataobj) > 0, np.asarray(truth.dataobj) > 0
        assert found.shape == true.shape and 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.5


def test_a_second_run_does_nothing_again(made):
    root, page = made
    before, text = times(root), open(page).read()
    assert len(before) == 2 * 4
    assert run(root) == page
    assert times(root) == before and open(page).read() == text
    (root / "out" / "refined" / "iosnet" / "eval" / "summary.csv").unlink()
    run(root)
    changed = [file for file, time in times(root).items() if before[file] != time]
    assert [file.split("/out/")[1] for file in changed] == ["refined/iosnet/eval/summary.csv"]


def test_fewer_or_newer_masks_are_scored_anew(tmp_path):
    for place in ("masks", "cases"):
        (tmp_path / place).mkdir()
        for name in ("a.nii.gz", "b.nii.gz"):
            (tmp_path / place / name).touch()
    masks = sorted((tmp_path / "masks").iterdir())
    assert not is_scored(tmp_path, masks)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "summary.csv").touch()
    assert is_scored(tmp_path, masks) and not is_scored(tmp_path, masks[:1])
    later = masks[0].stat().st_mtime + 10.0
    os.utime(masks[0], (later, later))
    assert not is_scored(tmp_path, masks)


def test_another_folder_with_the_same_names_is_refused(made, tmp_path):
    """Even where the names of the cases, and so the split, are the same."""
    root, _ = made
    other = tmp_path / "data"
    other.symlink_to(root / "data")
    run(root)  # by another way to the same folder nothing is refused
    reproduce(str(other), output_dir=str(root / "out"), networks="implicit_unet,iosnet", **OPTIONS)
    copy = tmp_path / "copy"
    shutil.copytree(root / "data", copy)
    with pytest.raises(ValueError, match="checkpoint.pt was made with another dataset_dir: remove it, or give another"):
        reproduce(str(copy), output_dir=str(root / "out"), networks="implicit_unet,iosnet", **OPTIONS)


def test_another_spacing_and_network_of_the_pack_are_refused(made, tmp_path):
    root, _ = made
    changed = yaml.safe_load((MODELS / "hippocampus" / "organ.yaml").read_text()) | {"spacing_mm": [1.5, 1.5, 1.5]}
    changed["network"]["filters"] = [8, 16, 32, 64]
    shutil.copytree(MODELS / "hippocampus", tmp_path / "hippocampus")
    (tmp_path / "hippocampus" / "organ.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(ValueError, match="made with another .*network, spacing_mm: remove it"):
        run(root, organ=str(tmp_path / "hippocampus"))


def test_labels_beyond_a_byte_are_written(made, tmp_path):
    root, _ = made
    pack = OrganPack.load("hippocampus")
    pack = replace(pack, structures=[replace(one, labels=[1002]) for one in pack.structures])
    task = task_of(pack, read_cases(pack, [{"image": file, "label": file} for file in files(root, "labels")[:1]]))
    peer = PEERS["iosnet"](task)
    write_mask(peer, pack, files(root, "images")[0], tmp_path / "mask.nii.gz", torch.device("cpu"))
    assert set(np.unique(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj))) <= {0, 1002}
    assert nib.load(tmp_path / "mask.nii.gz").get_data_dtype() == np.uint16


def test_what_makes_no_sense_is_refused(made):
    root, _ = made
    with pytest.raises(ValueError, match="made with another seed: remove it, or give another output_dir"):
        run(root, seed=1)
    with pytest.raises(ValueError, match="networks has 'vnet': give all, or some of unet"):
        run(root, networks="vnet")
    with pytest.raises(ValueError, match="give --minutes, --steps or both"):
        run(root, steps=0)
    with pytest.raises(ValueError, match="no training data"):
        reproduce(str(root / "nothing"), output_dir=str(root / "other"), **OPTIONS)
