"""Both sides of a paired organ train one prior, and each is refined with it."""

import json

import nibabel as nib
import numpy as np
import pytest

from scripts.metrics.surface import score_masks
from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.run.jobs import run_job
from scripts.shapes.label_surface import list_sources
from scripts.shapes.preparation import prepare
from scripts.shapes.samples import SampleSettings
from scripts.training.prior.job import select_targets
from scripts.training.prior.transfer import find_prior
from tests.helpers.pairs import grid, kidneys, label_map, save, world, write_pack
from tests.helpers.tiny_run import workflow

STRETCHES = {"a": 0.85, "b": 0.95, "c": 1.05, "d": 1.15, "e": 0.9, "f": 1.1, "single": 1.0}
HELD_OUT = ("e", "f")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pack, and label maps with both sides; case "single" has no left one."""
    folder = tmp_path_factory.mktemp("kidneys")
    shape, affine = grid("slices first", "anisotropic")
    for case, stretch in STRETCHES.items():
        points = world(shape, affine)
        labels = label_map(points, stretch)
        if case == "single":
            labels[kidneys(points, stretch)["left"]] = 0
        save(folder / "labels" / f"{case}.nii.gz", labels, affine)
    split = {"validation": [f"{case}.nii.gz" for case in HELD_OUT]}
    write_pack(folder / "pack", split=split, refine={"samples": 800})
    return folder


@pytest.fixture(scope="module")
def trained(bundle_root, folder):
    # with fewer points their noise outweighs the lean that tells a side from the other's mirror image
    job = workflow(bundle_root, folder, folder / "pack", folder, output_file=None, picct_points=600)
    job.initialize()
    job.run()
    return job.parser.get_parsed_content("prepared")


def test_sides_are_one_target(folder):
    pack = OrganPack.load(folder / "pack")
    for label in (None, "kidney_left", "kidney_right,kidney_left"):
        (target,) = select_targets(pack, label)
        assert target.name == "kidney" and [s.side for s in target.structures] == ["right", "left"]
        assert target.prior == folder / "pack" / "kidney.safetensors"
    names = [source.name for source in list_sources([folder / "scan_1.nii.gz"], pack.structures)]
    assert names == ["scan_1 right", "scan_1 left"]


def test_each_side_is_a_shape_and_no_case_is_in_both_parts(trained):
    train, held_out = {s.name for s in trained.train}, {s.name for s in trained.validation}
    both = {f"{case} {side}" for case in STRETCHES for side in ("right", "left")} - {"single left"}
    assert train | held_out == both
    assert held_out == {f"{case} {side}" for case in HELD_OUT for side in ("right", "left")}
    assert list(trained.skipped) == ["single left"]
    assert "none of the labels [1, 2] on the left side" in trained.skipped["single left"]
    anchor_side = trained.anchor_name.split()[1]
    for shape in trained.train:  # they lean to either side, so the other side fits as its mirror image only
        assert shape.mirrored == (anchor_side not in shape.name)


def test_the_card_names_both(trained, folder, bundle_root):
    prior = ShapePrior.load(folder / "pack" / "kidney.safetensors")
    card = prior.card
    assert card["structure"] == "kidney_right, kidney_left" and card["labels"] == [1, 2]
    assert card["training"]["mirror"] == {"kidney_right": "auto", "kidney_left": "auto"}
    assert card["n_cases"] == 5 and card["n_shapes"] == 9 and card["dice_held_out"]["n"] == 4
    assert card["dice_training"]["mean"] > 0.9
    assert (folder / "run" / "kidney" / "report.md").is_file()
    assert find_prior(str(folder / "pack"), "liver") == folder / "pack" / "kidney.safetensors"


@pytest.mark.parametrize("axes", ["slices first", "oblique"])
def test_both_sides_are_refined_and_their_parts_stay(trained, folder, tmp_path, axes):
    """A bite out of either one is filled with the part's own label; islands between them go; nothing overlaps."""
    shape, affine = grid(axes, "anisotropic")
    points = world(shape, affine)
    truth, both = label_map(points), kidneys(points)
    broken = truth.copy()
    for sign in (-1, 1):
        broken[np.linalg.norm(points - [sign * 38.0, -14.0, 0.0], axis=-1) < 12] = 0
    save(tmp_path / "masks" / "case.nii.gz", broken, affine)
    run_job(
        "refine",
        dataset_dir=tmp_path / "masks",
        output_dir=tmp_path / "out",
        organ=str(folder / "pack"),
        device="cpu",
    )
    refined = np.asarray(nib.load(tmp_path / "out" / "case" / "case_refined.nii.gz").dataobj)
    for side, mask in both.items():
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        own = (points[..., 0] > 0) == (side == "right")
        before, after = (score_masks((v > 0) & own, mask, spacing.tolist(), 2.0)["dsc"] for v in (broken, refined))
        assert after > before + 2.0
    assert not (refined[points[..., 0] < 0] == 2).any()  # the part is the right one's
    kept = (broken > 0) & (refined > 0)
    np.testing.assert_array_equal(refined[kept], broken[kept])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    shapes = {s["name"]: s for s in report["cases"][0]["structures"]}
    assert list(shapes) == ["kidney_right", "kidney_left"] and not any(s["failure"] for s in shapes.values())
    mirrored = {name: s["quality"]["alignment"]["mirrored"] for name, s in shapes.items()}
    assert mirrored["kidney_right"] != mirrored["kidney_left"]
    assert all((tmp_path / "out" / "case" / f"case_{name}.stl").is_file() for name in shapes)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_missing_side_is_said_and_the_other_refined(trained, folder, tmp_path):
    single = folder / "labels" / "single.nii.gz"
    run_job("refine", dataset_dir=single, output_dir=tmp_path, organ=str(folder / "pack"), device="cpu", html=False)
    (case,) = json.loads((tmp_path / "report.json").read_text())["cases"]
    assert case["status"] == "unchanged" and case["warnings"] == ["kidney_left: the mask has no kidney_left"]


def test_fixed_sides_are_mirrored_whatever_they_look_like(folder, tmp_path):
    pack = OrganPack.load(write_pack(tmp_path, mirrors={"right": "always", "left": "never"}))
    files = sorted((folder / "labels").glob("[a-d].nii.gz"))
    settings = SampleSettings(n_surface=500, n_free=500, picct_points=100, grid_size=12)
    shapes = prepare(files, pack.structures, tmp_path / "cache", settings).train
    assert {shape.name.split()[1]: shape.mirrored for shape in shapes} == {"right": True, "left": False}
    assert all(shape.mirrored == ("right" in shape.name) for shape in shapes) and len(shapes) == 8
