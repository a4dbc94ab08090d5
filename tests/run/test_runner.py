"""The evaluator: whole runs over good and bad cases, in this process and as a command."""

import errno
import gzip
import json
import logging
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from scripts.cases.checks import CheckMaskd, KeepInitiald
from scripts.cases.find import CaseDataset
from scripts.cases.read import ReadVolumed
from scripts.cases.sources import ReadMaskd
from scripts.cases.writer import CaseWriter
from scripts.organ.pack import MODELS
from scripts.report.run_report import RunReport
from scripts.run.runner import CaseEvaluator
from scripts.unet.images import CheckImaged
from tests.helpers.fake_chain import Failed, KeepLargestd, Thresholdd
from tests.helpers.volumes import AFFINES, OBLIQUE, STRAIGHT, blocks, save, save_with_nan_affine


def refine(masks, output, chain=None, html=False, **folders):
    """Run the refinement of masks with a fake chain and return the evaluator and the report."""
    steps = [KeepInitiald("pred"), CheckMaskd("pred", [1, 2]), *(chain or [KeepLargestd()])]
    evaluator = CaseEvaluator(
        "cpu",
        CaseDataset(masks, "pred", **folders),
        torch.nn.Identity(),
        Compose([ReadMaskd(), ReadVolumed(["image", "prob"], allow_missing_keys=True)]),
        Compose(steps),
        CaseWriter(output, "pred"),
        RunReport(output, "refine", {"organ": "blocks"}),
        html=html,
    )
    evaluator.run()
    return evaluator, json.loads((output / "report.json").read_text())


def test_page_is_written_at_the_end_and_its_failure_harms_nothing(tmp_path, monkeypatch, caplog):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    page = tmp_path / "out" / "report.html"
    refine(tmp_path / "masks", tmp_path / "out", html="true")
    assert page.stat().st_size > 1e6
    monkeypatch.setattr("scripts.report.html.render", None)  # cannot be called
    evaluator, report = refine(tmp_path / "masks", tmp_path / "out", html=True)
    assert report["cases"][0]["status"] == "refined" and "results are complete" in caplog.text
    assert not page.exists()  # that of the earlier run is gone
    evaluator.finish()
    refine(tmp_path / "masks", tmp_path / "out", html="false")
    assert not page.exists()


def test_headers_that_contradict_themselves_stand_in_the_report(tmp_path):
    image = nib.Nifti1Image(blocks(), STRAIGHT)
    image.set_sform(STRAIGHT, 1)
    image.set_qform(np.diag([1.0, 1, 1.33, 1]), 1)
    (tmp_path / "masks").mkdir()
    nib.save(image, tmp_path / "masks" / "a.nii.gz")
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    case = report["cases"][0]
    assert case["status"] == "refined" and any("the sform counts" in warning for warning in case["warnings"])
    assert case["volumes_ml"]["1"][0] == np.count_nonzero(blocks() == 1) / 1000


def by_case(report):
    return {case["case"]: case for case in report["cases"]}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_refined_mask_is_on_the_grid_it_came_from(tmp_path, affine):
    source = save(tmp_path / "masks" / "a.nii.gz", blocks(np.int16), affine, sform=2, qform=0)
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    folder = tmp_path / "out" / "a"
    assert sorted(p.name for p in folder.iterdir()) == [
        "a_initial.nii.gz",
        "a_organ_1.ply",
        "a_organ_1.stl",
        "a_organ_2.ply",
        "a_organ_2.stl",
        "a_refined.nii.gz",
    ]
    assert (folder / "a_initial.nii.gz").read_bytes() == source.read_bytes()
    before, after = nib.load(source), nib.load(folder / "a_refined.nii.gz")
    expected = blocks(np.int16)
    expected[0, 0, 0] = expected[11, 9, 7] = 0
    np.testing.assert_array_equal(np.asarray(after.dataobj), expected)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.get_data_dtype() == np.int16
    assert (after.header["sform_code"], after.header["qform_code"]) == (2, 0)
    (case,) = report["cases"]
    assert case["status"] == "refined" and case["reason"] == "" and case["changed_voxels"] == 2
    voxel_ml = abs(np.linalg.det(affine)) / 1000
    np.testing.assert_allclose(case["volumes_ml"]["1"], [97 * voxel_ml, 96 * voxel_ml], rtol=1e-4)
    assert set(case["seconds"]) == {"ReadMaskd", "ReadVolumed", "KeepInitiald", "CheckMaskd", "KeepLargestd", "write"}
    assert case["outputs"]["refined"] == str(folder / "a_refined.nii.gz")
    assert case["structures"][0] == {
        "name": "organ_1",
        "status": "refined",
        "failure": "",
        "seconds": {"fit": 0.1},
        "quality": {"share": 0.5, "worst": None, "regions": [{"kept": True}]},
    }


def make_bad_cases(folder):
    """Write one case of every kind that can go wrong, and two good ones."""
    save(folder / "a_good.nii.gz", blocks())
    save(folder / "z_good.nii", blocks(), OBLIQUE)
    save(folder / "empty.nii.gz", blocks() * 0)
    save(folder / "foreign.nii.gz", blocks() * 4)
    save(folder / "four.nii.gz", np.stack([blocks()] * 2, -1))
    save_with_nan_affine(folder / "nan.nii.gz", blocks())
    cut = save(folder / "cut.nii.gz", np.random.default_rng(0).integers(0, 3, (9, 9, 9)).astype(np.uint8))
    cut.write_bytes(cut.read_bytes()[:200])
    save(folder / "twice.nii", blocks())
    save(folder / "twice.nii.gz", blocks())


BAD = {
    "empty": ("kept", "the mask is empty"),
    "foreign": ("kept", "holds the labels [4, 8]"),
    "four": ("kept", "not that of one 3D volume"),
    "nan": ("kept", "NaN"),
    "cut": ("failed", "copy or export it again"),
    "twice": ("failed", "rename"),
}


def check_bad_cases(report, folder, output):
    cases = by_case(report)
    assert set(cases) == {*BAD, "a_good", "z_good"}
    counts = {"cases": 8, "refined": 2, "unchanged": 0, "segmented": 0, "kept": 4, "failed": 2}
    assert report["summary"] == counts | {
        "structures": {"refined": 4, "unchanged": 0, "kept": 0},
        "unusual_sizes": [],
    }
    for name, (status, reason) in BAD.items():
        assert cases[name]["status"] == status
        assert reason in cases[name]["reason"] and f"{name}.nii" in cases[name]["reason"]
        if status == "kept":
            for stage in ("initial", "refined"):
                copy = output / name / f"{name}_{stage}.nii.gz"
                assert copy.read_bytes() == (folder / f"{name}.nii.gz").read_bytes()
        else:
            assert not (output / name).exists() and cases[name]["outputs"] == {}
    assert cases["a_good"]["status"] == cases["z_good"]["status"] == "refined"


def test_bad_cases_are_named_and_the_others_go_on(tmp_path):
    make_bad_cases(tmp_path / "masks")
    evaluator, report = refine(tmp_path / "masks", tmp_path / "out")
    check_bad_cases(report, tmp_path / "masks", tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        evaluator.finish()
    assert stop.value.code == 1


def test_cases_passed_through_are_no_failures(tmp_path):
    save(tmp_path / "masks" / "empty.nii.gz", blocks() * 0)
    evaluator, report = refine(tmp_path / "masks", tmp_path / "out")
    assert report["cases"][0]["status"] == "kept"
    evaluator.finish()


def test_when_every_structure_failed_the_case_is_flagged(tmp_path):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    _, report = refine(tmp_path / "masks", tmp_path / "out", [Failed("pred")])
    assert report["cases"][0]["status"] == "kept" and report["cases"][0]["reason"] == "organ: no fit"
    assert (tmp_path / "out" / "a" / "a_refined.nii.gz").is_file()


@pytest.mark.parametrize("error, status", [("ValueError", "kept"), ("KeyError", "failed")])
def test_errors_of_the_chain_are_logged_and_the_mask_passed_through(tmp_path, caplog, error, status):
    save(tmp_path / "masks" / "a.nii.gz", blocks() * np.uint8(1))
    save(tmp_path / "masks" / "b.nii.gz", np.minimum(blocks(), 1))
    with caplog.at_level(logging.ERROR):
        _, report = refine(tmp_path / "masks", tmp_path / "out", [KeepLargestd(error=error, at=2)])
    cases = by_case(report)
    assert cases["a"]["status"] == status and f"a.nii.gz: {error}" in cases["a"]["reason"]
    assert "Traceback" in caplog.text and "made to fail" in caplog.text
    assert cases["b"]["status"] == "refined"
    copy = tmp_path / "out" / "a" / "a_refined.nii.gz"
    assert copy.read_bytes() == (tmp_path / "masks" / "a.nii.gz").read_bytes()


def test_evidence_is_read_by_name_and_missing_evidence_noted(tmp_path):
    seen = {}

    class Look(KeepLargestd):
        def __call__(self, data):
            seen[data["pred"].meta["filename_or_obj"][-8]] = data.get("image")
            return super().__call__(data)

    for name in ("a_7", "b_8", "c_9"):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    save(tmp_path / "images" / "a.nii.gz", blocks(np.float32)[::2] * 0.5, OBLIQUE)
    save(tmp_path / "images" / "c.nii.gz", blocks()).write_bytes(b"broken")
    _, report = refine(tmp_path / "masks", tmp_path / "out", [Look()], image_dir=tmp_path / "images")
    cases = by_case(report)
    assert seen["7"].shape == (1, 6, 10, 8) and np.allclose(seen["7"].affine, OBLIQUE, atol=1e-5)
    assert seen["8"] is None and cases["b_8"]["warnings"] == ["no image file fits this case's name"]
    assert cases["a_7"]["inputs"]["image"].endswith("a.nii.gz") and cases["a_7"]["warnings"] == []
    assert cases["c_9"]["status"] == "kept" and "c.nii.gz cannot be read" in cases["c_9"]["reason"]
    assert (tmp_path / "out" / "c_9" / "c_9_refined.nii.gz").is_file()


def test_run_stops_plainly_where_nothing_can_be_done(tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(SystemExit, match="masks holds no volume .*give the folder that holds them"):
        refine(tmp_path / "masks", tmp_path / "out")
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit, match="cannot write to output_dir .*taken"):
        refine(tmp_path / "masks", tmp_path / "taken" / "out")


def test_a_case_that_cannot_be_written_fails_alone(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    cases = by_case(report)
    assert cases["a"]["status"] == "failed" and str(tmp_path / "out" / "a") in cases["a"]["reason"]
    assert cases["b"]["status"] == "refined"


def test_strange_names_and_headers_cost_their_own_case_only(tmp_path):
    """A name of the run's own, bytes that are no UTF-8, a line break, a header that overflows, a link to nothing."""
    masks = tmp_path / "masks"
    for name in ("a", "report.json", "caf\udce9", "li\nne", "z"):
        save(masks / "x.nii.gz", blocks()).rename(masks / f"{name}.nii.gz")
    content = bytearray(save(masks / "far.nii", blocks()).read_bytes())
    content[108:112] = np.float32(1e30).tobytes()  # vox_offset
    (masks / "far.nii").write_bytes(content)
    (masks / "gone.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    evaluator, report = refine(masks, tmp_path / "out")
    cases = by_case(report)
    status = {name: case["status"] for name, case in cases.items()}
    assert status == {
        "a": "refined", "z": "refined", "report.json": "failed", "caf\\xe9": "failed", "far": "failed",
        "gone": "failed", "li\nne": "failed",
    }  # fmt: skip
    assert "a name of the run's own: rename it" in cases["report.json"]["reason"]
    assert "holds a line break or the like: rename it" in cases["li\nne"]["reason"]
    assert "no UTF-8: rename it" in cases["caf\\xe9"]["reason"]
    assert "far.nii" in cases["far"]["reason"] and "gone.nii.gz" in cases["gone"]["reason"]
    with pytest.raises(SystemExit):
        evaluator.finish()


def test_too_little_memory_for_a_case_costs_that_case_only(tmp_path, monkeypatch):
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    load = nib.arrayproxy.ArrayProxy.__array__

    def read(self, *arguments, **options):
        if "a.nii" in str(self.file_like):
            raise MemoryError
        return load(self, *arguments, **options)

    monkeypatch.setattr(nib.arrayproxy.ArrayProxy, "__array__", read)
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    cases = by_case(report)
    assert cases["a"]["status"] == "failed" and "a.nii.gz" in cases["a"]["reason"]
    assert cases["b"]["status"] == "refined"


def test_a_full_disk_fails_the_case_though_the_mask_can_be_kept(tmp_path, monkeypatch):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    write = nib.save

    def full(image, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    evaluator, report = refine(tmp_path / "masks", tmp_path / "out")
    assert report["cases"][0]["status"] == "failed" and "No space left" in report["cases"][0]["reason"]
    with pytest.raises(SystemExit) as stop:
        evaluator.finish()
    assert stop.value.code == 1
    monkeypatch.setattr(nib, "save", write)


def test_a_report_that_cannot_be_written_ends_the_run_plainly(tmp_path, monkeypatch):
    save(tmp_path / "masks" / "a.nii.gz", blocks())

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scripts.report.run_report.write_json", full)
    with pytest.raises(SystemExit, match="report.json cannot be written"):
        refine(tmp_path / "masks", tmp_path / "out")


@pytest.mark.parametrize("kind", ["negative", "scaled"])
def test_masks_that_are_kept_are_copied_byte_for_byte(tmp_path, kind):
    path = save(tmp_path / "masks" / "a.nii.gz", -blocks(np.int16) if kind == "negative" else blocks())
    if kind == "scaled":
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[112:116] = np.float32(200).tobytes()  # scl_slope
        path.write_bytes(gzip.compress(bytes(content)))
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    assert report["cases"][0]["status"] == "kept"
    for stage in ("initial", "refined"):
        assert (tmp_path / "out" / "a" / f"a_{stage}.nii.gz").read_bytes() == path.read_bytes()


def test_results_of_an_earlier_run_are_removed_when_their_case_starts_and_nothing_else(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    refine(tmp_path / "masks", tmp_path / "out")
    for name in ("a_notes.txt", "a_mine.nii.gz", "a_mine.stl"):
        (tmp_path / "out" / "a" / name).touch()
    (tmp_path / "masks" / "b.nii.gz").unlink()
    (tmp_path / "masks" / "a.nii.gz").write_bytes(b"broken")
    _, report = refine(tmp_path / "masks", tmp_path / "out")
    assert by_case(report)["a"]["status"] == "failed"
    left = sorted(file.name for file in (tmp_path / "out" / "a").iterdir())
    assert left == ["a_mine.nii.gz", "a_mine.stl", "a_notes.txt"]
    assert (tmp_path / "out" / "b" / "b_refined.nii.gz").is_file()  # no case of this run


def test_a_run_that_would_overwrite_its_input_is_refused(tmp_path):
    mask = save(tmp_path / "run" / "as_given" / "a.nii.gz", blocks())
    before = mask.read_bytes()
    with pytest.raises(SystemExit, match="would overwrite .*a.nii.gz, which it reads: give another output_dir"):
        refine(mask.parent, tmp_path / "run")
    assert mask.read_bytes() == before and len(list((tmp_path / "run").iterdir())) == 1


def test_a_folder_with_another_job_s_results_is_refused_before_anything_is_removed(tmp_path):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    refine(tmp_path / "masks", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    report["settings"]["organ"] = "liver"
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    with pytest.raises(SystemExit, match="results of another job .*liver.*give another --output_dir"):
        refine(tmp_path / "masks", tmp_path / "out", html=True)
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before


class Interrupted(KeepLargestd):
    """Ctrl+C while case b is refined."""

    def __call__(self, data):
        if "b.nii" in data["pred"].meta["filename_or_obj"]:
            raise KeyboardInterrupt
        return super().__call__(data)


def test_ctrl_c_keeps_what_is_done_and_writes_the_page(tmp_path, caplog):
    for name in "abc":
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as stop:
        refine(tmp_path / "masks", tmp_path / "out", [Interrupted()], html=True)
    assert stop.value.code == 130 and "stopped after 1 of 3 cases" in caplog.text
    assert "a_refined.nii.gz" in (tmp_path / "out" / "report.json").read_text()
    assert (tmp_path / "out" / "report.html").is_file() and not (tmp_path / "out" / ".lock").exists()


def test_each_case_is_told_in_a_line_and_at_the_end_what_needs_a_look(tmp_path, caplog):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    alone = np.zeros((12, 10, 8), np.uint8)
    alone[3:6, 3:6, 3:6] = 1
    save(tmp_path / "masks" / "b.nii.gz", alone)
    save(tmp_path / "masks" / "empty.nii.gz", blocks() * 0)
    with caplog.at_level(logging.INFO, "scripts"):
        refine(tmp_path / "masks", tmp_path / "out")
    said = [record.message for record in caplog.records if record.name == "scripts.run.runner"]
    assert said[0] == "[1/3] a refined: organ_1 refined; organ_2 refined"
    assert said[1].startswith("[2/3] b unchanged") and "[3/3] empty kept: " in said[2]
    assert said[3].startswith("3 cases: 1 refined, 1 unchanged, 1 kept; 3 structures: ")
    assert said[4] == "look at: empty (kept)"


def segment(images, output, chain, checks=()):
    network = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.zeros_(network.bias)
    evaluator = CaseEvaluator(
        "cpu",
        CaseDataset(images, "image"),
        network,
        Compose([LoadImaged("image"), EnsureChannelFirstd("image"), *checks]),
        Compose(chain),
        CaseWriter(output, "image"),
        RunReport(output, "inference"),
        inferer=SimpleInferer(),
    )
    evaluator.run()
    return by_case(json.loads((output / "report.json").read_text()))


def test_images_are_segmented_then_refined(tmp_path):
    save(tmp_path / "images" / "a.nii.gz", blocks().clip(0, 1).astype(np.float32), OBLIQUE, sform=2)
    save(tmp_path / "images" / "one.nii.gz", blocks().clip(0, 1)[..., None], STRAIGHT)
    save(tmp_path / "images" / "black.nii.gz", blocks() * 0)
    save(tmp_path / "images" / "cut.nii.gz", blocks()).write_bytes(b"broken")
    save_with_nan_affine(tmp_path / "images" / "nan.nii.gz", blocks())
    cases = segment(
        tmp_path / "images",
        tmp_path / "out",
        [Thresholdd("pred"), KeepInitiald("pred"), CheckMaskd("pred", [1]), KeepLargestd()],
    )
    status = {name: case["status"] for name, case in cases.items()}
    assert status == {"a": "refined", "one": "refined", "black": "kept", "cut": "failed", "nan": "failed"}
    assert "cut.nii.gz cannot be read" in cases["cut"]["reason"] and "NaN" in cases["nan"]["reason"]
    assert "black.nii.gz: the mask is empty" in cases["black"]["reason"]
    folder = tmp_path / "out" / "a"
    initial, refined = (nib.load(folder / f"a_{stage}.nii.gz") for stage in ("initial", "refined"))
    np.testing.assert_array_equal(np.asarray(initial.dataobj), blocks().clip(0, 1))
    assert np.asarray(refined.dataobj).sum() == np.count_nonzero(blocks()) - 2
    for mask in (initial, refined):
        assert mask.get_data_dtype() == np.uint8 and mask.header["sform_code"] == 2
        np.testing.assert_allclose(mask.affine, OBLIQUE, atol=1e-5)
    assert nib.load(tmp_path / "out" / "one" / "one_refined.nii.gz").shape == (12, 10, 8, 1)
    assert (tmp_path / "out" / "black" / "black_refined.nii.gz").is_file()
    assert "network" in cases["a"]["seconds"]


def test_images_in_which_a_network_sees_nothing_fail_with_the_reason(tmp_path):
    spoilt = blocks().astype(np.float32)
    spoilt[3, 3, 3] = np.nan
    for name, image in {"nan": spoilt, "constant": blocks() * 0.0 + 7, "good": blocks().astype(np.float32)}.items():
        save(tmp_path / "images" / f"{name}.nii.gz", image)
    cases = segment(tmp_path / "images", tmp_path / "out", [Thresholdd("pred")], [CheckImaged("image")])
    assert {name: case["status"] for name, case in cases.items()} == {
        "nan": "failed", "constant": "failed", "good": "segmented"
    }  # fmt: skip
    assert "nan.nii.gz holds NaN" in cases["nan"]["reason"]
    assert "constant.nii.gz has the same value everywhere" in cases["constant"]["reason"]


def test_network_alone_writes_the_initial_mask_only(tmp_path):
    save(tmp_path / "images" / "a.nii.gz", blocks().clip(0, 1).astype(np.float32))
    cases = segment(tmp_path / "images", tmp_path / "out", [Thresholdd("pred")])
    assert cases["a"]["status"] == "segmented"
    assert [p.name for p in (tmp_path / "out" / "a").iterdir()] == ["a_initial.nii.gz"]


# ------------------------------------------------------------------------------------------- configs/refine.yaml

ORGAN = "name: blocks\nlabels: {1: one, 2: two}\nstructures: [{name: block, labels: [1, 2]}]\n"
OVERLAY = """
postprocessing:
  _target_: Compose
  transforms:
  - {_target_: scripts.cases.checks.KeepInitiald, keys: pred}
  - {_target_: scripts.cases.checks.CheckMaskd, keys: pred, labels: "$list(@pack.labels)"}
  - {_target_: tests.helpers.fake_chain.KeepLargestd}
"""


@pytest.fixture
def fake_organ(tmp_path):
    """A folder with an organ pack and an overlay that puts the fake chain into the config."""
    (tmp_path / "organ").mkdir()
    (tmp_path / "organ" / "organ.yaml").write_text(ORGAN)
    (tmp_path / "organ" / "block.safetensors").symlink_to(MODELS / "hippocampus" / "hippocampus.safetensors")
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    versions = ("version", "monai_version", "pytorch_version", "numpy_version")
    (tmp_path / "metadata.json").write_text(json.dumps(dict.fromkeys(versions, "1.0.0")))
    return tmp_path


def refine_workflow(fake_organ, bundle_root, organ, **options):
    """Return the refine job with the fake chain, initialized."""
    workflow = ConfigWorkflow(
        [str(bundle_root / "configs" / "refine.yaml"), str(fake_organ / "overlay.yaml")],
        meta_file=str(fake_organ / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle_root),
        dataset_dir=str(fake_organ / "masks"),
        output_dir=str(fake_organ / "out"),
        organ=organ,
        device="cpu",
        **options,
    )
    workflow.initialize()
    return workflow


def test_refine_config_names_what_is_missing(fake_organ, bundle_root):
    save(fake_organ / "masks" / "a.nii.gz", blocks())
    with pytest.raises(SystemExit, match="no organ pack 'spline'"):
        refine_workflow(fake_organ, bundle_root, "spline").run()
    with pytest.raises(SystemExit, match="unknown preset 'fancy'; choose one of default"):
        refine_workflow(fake_organ, bundle_root, str(fake_organ / "organ"), preset="fancy").run()
    (fake_organ / "organ" / "block.safetensors").unlink()
    with pytest.raises(SystemExit, match="no shape prior .*block.safetensors; train one"):
        refine_workflow(fake_organ, bundle_root, str(fake_organ / "organ")).run()


def test_refine_config_has_what_hosts_look_for(fake_organ, bundle_root):
    assert refine_workflow(fake_organ, bundle_root, str(fake_organ / "organ")).check_properties() == []


def test_refine_config_runs_in_process(fake_organ, bundle_root):
    save(fake_organ / "masks" / "a.nii.gz", blocks())
    workflow = refine_workflow(fake_organ, bundle_root, str(fake_organ / "organ"))
    workflow.run()
    workflow.finalize()
    report = json.loads((fake_organ / "out" / "report.json").read_text())
    assert report["job"] == "refine" and report["device"] == "cpu" and report["settings"]["seed"] == 0
    assert report["cases"][0]["status"] == "refined" and report["versions"]["torch"] == torch.__version__


def command(fake_organ, bundle_root, *further):
    """Run the bundle's refine job as users do, from the bundle's root."""
    configs = f"['{bundle_root / 'configs' / 'refine.yaml'}','{fake_organ / 'overlay.yaml'}']"
    arguments = ["--config_file", configs, "--dataset_dir", fake_organ / "masks", "--output_dir", fake_organ / "out"]
    environment = {**os.environ, "PYTHONPATH": str(bundle_root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments), "--device", "cpu", *further],
        cwd=bundle_root,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_command_exits_with_1_where_a_case_failed(fake_organ, bundle_root):
    make_bad_cases(fake_organ / "masks")
    done = command(fake_organ, bundle_root, "--organ", str(fake_organ / "organ"))
    assert done.returncode == 1, done.stderr
    report = json.loads((fake_organ / "out" / "report.json").read_text())
    check_bad_cases(report, fake_organ / "masks", fake_organ / "out")
    assert "Traceback" not in done.stderr and "cut failed: " in done.stdout + done.stderr
