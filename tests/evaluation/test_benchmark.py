"""The benchmark: which cases it runs, what it makes of them, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.find import find_cases
from scripts.evaluation import benchmark as module
from scripts.evaluation.benchmark import PRESETS, benchmark, link_cases, remove_run
from scripts.evaluation.postprocess import POSTPROCESSING
from scripts.organ.pack import OrganPack
from tests.helpers.mean_shape import damaged, mean_shape
from tests.helpers.volumes import save


@pytest.fixture
def folders(tmp_path) -> Path:
    """Labels p1 to p3; masks of p1, two of p2, and one of somebody else."""
    for name in ("p1", "p2", "p3"):
        save(tmp_path / "labels" / f"{name}.nii.gz", np.ones((4, 4, 4), np.uint8))
    for name in ("p1", "p2_a", "p2_b", "q1"):
        save(tmp_path / "masks" / f"{name}.nii.gz", np.ones((4, 4, 4), np.uint8))
    return tmp_path


def test_links_of_a_split_stand_for_the_files(folders):
    cases = link_cases(folders / "masks", folders / "labels", folders / "cases", ["p2", "p3"])
    assert [case["case"] for case in find_cases(cases, "pred")] == ["p2_a", "p2_b"]
    assert nib.load(cases / "p2_a.nii.gz").shape == (4, 4, 4)
    again = link_cases(folders / "masks", folders / "labels", folders / "cases")
    assert [case["case"] for case in find_cases(again, "pred")] == ["p1", "p2_a", "p2_b"]
    with pytest.raises(ValueError, match="no file of"):
        link_cases(folders / "masks", folders / "labels", folders / "cases", ["p3"])


def test_foreign_files_are_never_removed(folders):
    kept = save(folders / "cases" / "mine.nii.gz", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="mine.nii.gz, which is no link"):
        link_cases(folders / "masks", folders / "labels", folders / "cases")
    with pytest.raises(ValueError, match="not the output of an earlier run"):
        remove_run(folders / "masks")
    assert kept.is_file() and (folders / "masks" / "p1.nii.gz").is_file()
    (folders / "masks" / "report.json").write_text("{}")
    remove_run(folders / "masks")
    assert not (folders / "masks").exists()
    remove_run(folders / "nowhere")


def test_wrong_options_are_refused(folders):
    with pytest.raises(ValueError, match="give --mask_dir"):
        benchmark("hippocampus", str(folders / "labels"))
    with pytest.raises(ValueError, match="not both"):
        benchmark("hippocampus", str(folders / "labels"), str(folders / "masks"), simulate="mixed")
    with pytest.raises(ValueError, match="unknown kinds mixd"):
        benchmark("hippocampus", str(folders / "labels"), simulate="mixd")
    with pytest.raises(ValueError, match="one kind of errors, not 2"):
        benchmark("hippocampus", str(folders / "labels"), simulate="mixed,steps")
    with pytest.raises(ValueError, match="no split 'tset'"):
        benchmark("hippocampus", str(folders / "labels"), str(folders / "masks"), split="tset")
    with pytest.raises(ValueError, match="unknown preset 'papre'"):
        benchmark("hippocampus", str(folders / "labels"), str(folders / "masks"), presets="linear,papre")


def pack_of_hippocampus(folder: Path, **settings) -> Path:
    """Write a pack that borrows the packaged hippocampus prior."""
    pack = OrganPack.load("hippocampus")
    folder.mkdir()
    (folder / pack.structures[0].prior.name).symlink_to(pack.structures[0].prior)
    changed = yaml.safe_load(pack.file.read_text()) | {"default": False} | settings
    (folder / "organ.yaml").write_text(yaml.safe_dump(changed))
    return folder


def rows_of(table: str) -> list[dict[str, str]]:
    with open(Path(table).with_name("metrics.csv"), newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_all_methods_on_masks_of_a_split(tmp_path):
    """Two presets on a damaged mask of the test part; a case of the training part is neither run nor scored."""
    pack = pack_of_hippocampus(tmp_path / "pack", split={"train": ["p1.nii.gz"], "test": ["p2.nii.gz"]})
    truth, affine = mean_shape("flipped")
    for name in ("p1", "p2"):
        save(tmp_path / "labels" / f"{name}.nii.gz", truth, affine)
        save(tmp_path / "masks" / f"{name}_cnn.nii.gz", damaged(truth, affine), affine)
    options = {"split": "test", "device": "cpu", "processes": 1, "presets": "linear, paper", "shape_metrics": False}
    table = benchmark(
        str(pack), str(tmp_path / "labels"), str(tmp_path / "masks"), output_dir=str(tmp_path / "out"), **options
    )
    rows = {row["method"]: row for row in rows_of(table)}
    assert list(rows) == ["initial", *POSTPROCESSING, "linear", "paper"]
    assert {row["case"] for row in rows.values()} == {"p2_cnn"}
    assert sorted(path.name for path in (tmp_path / "out" / "linear").iterdir()) == [
        "p2_cnn",
        "report.json",
    ]
    assert float(rows["linear"]["dsc"]) > float(rows["initial"]["dsc"])
    assert rows["paper"]["dsc"] != rows["linear"]["dsc"]


def test_images_alone_are_segmented_first(tmp_path, monkeypatch):
    """With a stand-in for the job: which job runs with what, and whose initial masks are compared with."""
    truth, affine = mean_shape("plain")
    for folder in ("labels", "images"):
        save(tmp_path / folder / "p1.nii.gz", truth, affine)
    calls = []

    def fake_job(job, dataset_dir, output_dir, **options):
        calls.append((job, output_dir.name, options))
        assert [path.name for path in dataset_dir.iterdir()] == ["p1.nii.gz"]
        save(output_dir / "p1" / "p1_initial.nii.gz", damaged(truth, affine), affine)
        save(output_dir / "p1" / "p1_refined.nii.gz", truth, affine)

    monkeypatch.setattr(module, "run_job", fake_job)
    options = {"image_dir": str(tmp_path / "images"), "output_dir": str(tmp_path / "out"), "processes": 1, "seed": 7}
    table = benchmark("hippocampus", str(tmp_path / "labels"), **options)
    assert [(job, folder) for job, folder, _ in calls] == [("inference", preset) for preset in PRESETS]
    assert calls[0][2] == {"preset": "linear", "organ": "hippocampus", "seed": 7, "html": False}
    rows = {row["method"]: row for row in rows_of(table)}
    assert list(rows) == ["initial", *POSTPROCESSING, *PRESETS]
    assert float(rows["initial"]["dsc"]) < 100
    assert rows["default"]["dsc"] == "100" and rows["default"]["cd"] == rows["default"]["cd_floor"]


def test_images_beside_masks_are_evidence(tmp_path, monkeypatch):
    truth, affine = mean_shape("plain")
    for name in ("labels/p1", "masks/p1", "images/p1"):
        save(tmp_path / f"{name}.nii.gz", truth, affine)
    calls = []

    def fake_job(job, dataset_dir, output_dir, **options):
        calls.append((job, options["image_dir"]))
        save(output_dir / "p1" / "p1_refined.nii.gz", truth, affine)

    monkeypatch.setattr(module, "run_job", fake_job)
    folders = {f"{kind}_dir": str(tmp_path / f"{kind}s") for kind in ("label", "mask", "image")}
    benchmark("hippocampus", **folders, output_dir=str(tmp_path / "out"), presets="default", shape_metrics=False)
    assert calls == [("refine", tmp_path / "images")]


def test_labels_with_simulated_errors_stand_in_for_masks(tmp_path, monkeypatch):
    """The masks that are refined and compared with are the labels of the split, damaged alike for every preset."""
    pack = pack_of_hippocampus(tmp_path / "pack", split={"test": ["p2.nii.gz"]})
    truth, affine = mean_shape("plain")
    for name in ("p1", "p2"):
        save(tmp_path / "labels" / f"{name}.nii.gz", truth, affine)
    given = []

    def fake_job(job, dataset_dir, output_dir, **options):
        given.append({path.name: np.asarray(nib.load(path).dataobj) for path in dataset_dir.iterdir()})
        save(output_dir / "p2" / "p2_refined.nii.gz", truth, affine)

    monkeypatch.setattr(module, "run_job", fake_job)
    options = {"split": "test", "simulate": "mixed", "processes": 1, "shape_metrics": False}
    table = benchmark(str(pack), str(tmp_path / "labels"), output_dir=str(tmp_path / "out"), **options)
    assert [list(masks) for masks in given] == [["p2.nii.gz"]] * len(PRESETS)
    assert (given[0]["p2.nii.gz"] != truth).sum() > 100 and np.array_equal(given[0]["p2.nii.gz"], given[2]["p2.nii.gz"])
    rows = {row["method"]: row for row in rows_of(table)}
    assert list(rows) == ["initial", *POSTPROCESSING, *PRESETS]
    assert float(rows["initial"]["dsc"]) < 95 and rows["default"]["dsc"] == "100"
