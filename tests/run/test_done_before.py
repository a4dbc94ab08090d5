"""Runs that are started again: what was done in the same way is not done again, and the report holds all cases."""

import json
import logging
import os
import signal

import pytest

from scripts.cases.digest import hash_of
from scripts.organ.pack import OrganPack
from scripts.organ.places import QUALITY_FILES
from tests.helpers.fake_chain import KillsItselfd
from tests.helpers.fake_run import run_refine
from tests.helpers.small_pack import write_pack
from tests.helpers.volumes import blocks, save
from tests.kills import in_child, results


class Counted(KillsItselfd):
    """The fake chain, which writes down the cases that it refines."""

    def __init__(self, log, kill="nothing"):
        super().__init__(kill)
        self.log = log

    def __call__(self, data):
        with open(self.log, "a") as file:
            file.write(os.path.basename(data["pred"].meta["filename_or_obj"])[0])
        return super().__call__(data)


@pytest.fixture
def masks(tmp_path):
    """Four cases, of which one is corrupt and one empty."""
    for name in "abd":
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks() * (name != "d"))
    save(tmp_path / "masks" / "c.nii.gz", blocks()).write_bytes(b"broken")
    return tmp_path / "masks"


@pytest.fixture
def refine(masks, tmp_path):
    """Do the run, again and again; returns the cases that were refined this time, in their order."""

    def act(**options):
        log = tmp_path / "log"
        log.write_text("")
        options = {"output": tmp_path / "out", **options}
        run_refine(masks, options.pop("output"), [Counted(log)], **options)
        return log.read_text()

    return act


def cases(output):
    return {case["case"]: case for case in json.loads((output / "report.json").read_text())["cases"]}


def test_a_second_run_does_nothing_again_but_what_failed_and_reports_all(refine, tmp_path, caplog):
    assert refine() == "ab"
    before = results(tmp_path / "out")
    with caplog.at_level(logging.INFO):
        assert refine(html=True) == ""
    assert "3 cases done before, skipped; --overwrite true does them again" in caplog.messages
    assert {name: case["status"] for name, case in cases(tmp_path / "out").items()} == {
        "a": "refined", "b": "refined", "c": "failed", "d": "kept",
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(f'"name":"{name}"' in page for name in "abcd")
    assert {name: data for name, data in results(tmp_path / "out").items() if name != "report.html"} == before
    assert refine(overwrite=True) == "ab"


def test_other_files_or_missing_results_are_done_again(refine, masks, tmp_path):
    refine()
    save(masks / "a.nii.gz", blocks() * 2 % 3)
    save(masks / "c.nii.gz", blocks())
    assert refine() == "ac"
    (tmp_path / "out" / "b" / "b_organ_1.stl").unlink()
    assert refine() == "b" and (tmp_path / "out" / "b" / "b_organ_1.stl").is_file()
    (masks / "d.nii.gz").unlink()
    assert refine() == "" and sorted(cases(tmp_path / "out")) == ["a", "b", "c"]


def test_the_report_notes_the_hashes_of_the_priors(refine, tmp_path):
    pack = OrganPack.load(write_pack(tmp_path / "pack"))
    (one,) = pack.structures
    one.prior.write_bytes(b"a prior")
    refine(pack=pack)
    told = json.loads((tmp_path / "out" / "report.json").read_text())["priors"]
    assert told == {one.name: hash_of([], [one.prior])}


def test_other_settings_versions_code_or_packs_do_all_again(refine, tmp_path, monkeypatch):
    pack = OrganPack.load(write_pack(tmp_path / "pack"))
    assert refine(pack=pack) == "ab" and refine(pack=pack) == ""
    assert refine(pack=pack, preset="linear") == "ab"
    assert refine(pack=pack, preset="linear", image_dir="elsewhere") == ""  # the images' content counts
    with open(pack.file, "a") as file:
        file.write("# changed\n")
    assert refine(pack=pack, preset="linear") == "ab"
    monkeypatch.setattr("scripts.run.done_before.bundle_version", lambda: "99")
    assert refine(pack=pack, preset="linear") == "ab"
    monkeypatch.setattr("scripts.run.done_before.CODE", ("configs/presets.yaml",))
    assert refine(pack=pack, preset="linear") == "ab"


@pytest.mark.parametrize("network_name", ["", "scan"])
def test_another_second_reader_does_all_again(refine, tmp_path, network_name):
    """The pack's U-Net reads the images, also where another network makes the masks."""
    pack = OrganPack.load(write_pack(tmp_path / "pack"))
    assert refine(pack=pack, network_name=network_name) == "ab" and refine(pack=pack, network_name=network_name) == ""
    (pack.folder / "model.pt").write_bytes(b"weights")
    assert refine(pack=pack, network_name=network_name) == "ab"


def test_new_intervals_or_another_predictor_do_all_again(refine, tmp_path, monkeypatch):
    pack = OrganPack.load(write_pack(tmp_path / "pack"))
    assert refine(pack=pack) == "ab" and refine(pack=pack) == ""
    for name in ("calibration.json", "calibration_with_image.json"):
        (pack.folder / name).write_text("{}")
        assert refine(pack=pack) == "ab" and refine(pack=pack) == ""
    monkeypatch.setitem(QUALITY_FILES, "fit", pack.folder / "another.safetensors")
    assert refine(pack=pack) == "ab" and refine(pack=pack) == ""


def test_a_killed_run_goes_on_where_it_was_with_the_results_of_an_uninterrupted_one(refine, masks, tmp_path):
    refine(output=tmp_path / "whole")

    for _ in range(3):  # killed again before anything is done, it still knows what was done at first
        ended = in_child(lambda: run_refine(masks, tmp_path / "out", [Counted(tmp_path / "log", kill="b")]))
        assert os.WTERMSIG(ended) == signal.SIGKILL
    assert refine() == "b"
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    times = {"seconds", "peak_memory_mb", "outputs"}
    told = [
        {n: {k: v for k, v in c.items() if k not in times} for n, c in cases(tmp_path / f).items()}
        for f in ("out", "whole")
    ]
    assert told[0] == told[1]


def test_a_moved_folder_of_results_is_gone_on_with(refine, tmp_path):
    refine()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert refine(output=tmp_path / "moved") == ""
    assert cases(tmp_path / "moved")["a"]["outputs"]["refined"] == str(tmp_path / "moved" / "a" / "a_refined.nii.gz")
