"""Several networks in one comparison: which folders they are, the strata of their masks, and the table."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from scripts.cases.sources import LabelSource
from scripts.evaluation import benchmark as module
from scripts.evaluation.benchmark import benchmark
from scripts.evaluation.networks import EVERY_NETWORK, network_folders, stratify, write_networks
from tests.helpers.foreign import write_pack
from tests.helpers.volumes import OBLIQUE, save

SHAPE = (14, 12, 10)


def bar(length: int, value: int = 1) -> np.ndarray:
    """A bar of `length` voxels with the first label."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1 : 1 + length, 2:6, 2:6] = value
    return labels


def dsc(one: int, other: int) -> float:
    return 200.0 * min(one, other) / (one + other)


@pytest.fixture
def folders(tmp_path) -> Path:
    """Bars of 10 voxels, and two networks' shorter ones; what else may lie there is no network."""
    for case, lengths in {"p1": {"good": 9, "weak": 3}, "p2": {"good": 10, "weak": 7}}.items():
        save(tmp_path / "labels" / f"{case}.nii.gz", bar(10), OBLIQUE)
        for network, length in lengths.items():
            save(tmp_path / "networks" / network / f"{case}.nii.gz", bar(length), OBLIQUE)
    (tmp_path / "networks" / "empty").mkdir()
    (tmp_path / "networks" / "notes.txt").touch()
    save(tmp_path / "networks" / ".hidden" / "p1.nii.gz", bar(1), OBLIQUE)
    return tmp_path


def pack_of_bars(folder: Path) -> Path:
    return write_pack(folder / "pack", labels={1: "bar"}, structures=[{"name": "bar", "labels": [1]}], sources={})


@pytest.fixture
def networks_in(tmp_path_factory):
    """`network_folders` for an organ whose one label is `bar`."""
    source = LabelSource.of(pack_of_bars(tmp_path_factory.mktemp("organ")))
    return lambda mask_dir: network_folders(str(mask_dir), source)


def test_a_pattern_or_a_folder_of_folders_names_networks(folders, networks_in):
    two = {name: folders / "networks" / name for name in ("good", "weak")}
    assert networks_in(folders / "networks") == networks_in(folders / "networks" / "*") == two
    assert networks_in(folders / "networks" / "[!w]*") == {"good": two["good"]}
    assert networks_in(folders / "networks" / "good") == {}
    assert networks_in(folders / "nowhere") == {}
    with pytest.raises(ValueError, match="no folder with label maps fits .*x.: check the pattern"):
        networks_in(folders / "networks" / "x*")


def test_networks_are_called_by_what_differs_in_their_paths(tmp_path, networks_in):
    for name in ("a/fold_0/out", "b/fold_0/out"):
        save(tmp_path / name / "p1.nii.gz", bar(3))
    assert list(networks_in(tmp_path / "*/fold_0/out")) == ["a", "b"]
    for name in ("a/fold_1/out", "[1]/p"):
        save(tmp_path / name / "p1.nii.gz", bar(3))
    assert list(networks_in(tmp_path / "*/fold_*/out")) == ["a_fold_0", "a_fold_1", "b_fold_0"]
    assert networks_in(tmp_path / "[1]" / "p") == {}  # a folder that is there is no pattern
    assert list(networks_in(tmp_path / "[1]")) == ["p"]


@pytest.mark.parametrize("name", ["{}/{}_trans", "{}/bar", "{}/segmentations/bar"])
def test_a_folder_of_cases_in_folders_is_one_network(folders, networks_in, name):
    for case in ("p1", "p2"):
        save(folders / "cases" / (name.format(case, case) + ".nii.gz"), bar(9))
    assert networks_in(folders / "cases") == {}
    if "bar" in name:
        assert networks_in(folders / "cases" / "p1") == {}
    with pytest.raises(ValueError, match="cases holds no volume .*subfolders are not searched"):
        benchmark(**options(folders) | {"mask_dir": str(folders / "cases")})


def test_a_folder_without_label_maps_beside_networks_is_named(folders, networks_in, caplog):
    save(folders / "networks" / "deep" / "p1" / "p1_trans.nii.gz", bar(9))
    for mask_dir in (folders / "networks", folders / "networks" / "*"):
        caplog.clear()
        assert list(networks_in(mask_dir)) == ["good", "weak"]
        (said,) = caplog.messages
        assert "no label maps (subfolders are not searched)" in said
        assert f"networks{os.sep}deep" in said and f"networks{os.sep}empty" in said
        assert "notes.txt" not in said and ".hidden" not in said


def test_two_folders_of_one_name_are_refused(tmp_path, networks_in):
    for name in ("a_b/c", "a/b_c"):
        save(tmp_path / name / "p1.nii.gz", bar(3))
    with pytest.raises(ValueError, match="a.b_c and .*a_b.c would both be called a_b_c: rename one"):
        networks_in(tmp_path / "*" / "*")


def test_strata_are_of_the_initial_score():
    pairs = [(50.0, 60.0), (69.9, 69.0), (70.0, 72.0), (85.0, 84.5), (99.0, 99.0), (90.0, 89.0)]
    rows = {row["stratum"]: row for row in stratify(pairs)}
    assert {name: row["n"] for name, row in rows.items()} == {"all": 6, "below 70": 2, "70–85": 1, "85 and above": 3}
    assert rows["below 70"]["harmed_percent"] == rows["below 70"]["gained_percent"] == 50
    assert rows["70–85"]["gained_percent"] == 100 and rows["70–85"]["dsc_after"] == 72
    assert rows["85 and above"]["harmed_percent"] == pytest.approx(100 / 3)  # half a point is no harm
    assert [row["stratum"] for row in stratify([(99.0, 99.0)])] == ["all", "85 and above"]
    assert stratify([]) == []


def test_table_has_a_row_a_network_and_a_column_a_structure(tmp_path):
    pairs = {("a", "liver"): [(60.0, 70.0)], ("b", "liver"): [(90.0, 88.0)], ("b", "spleen"): [(80.0, 80.0)]}
    text = write_networks(tmp_path, "Networks", ["A note."], {"default": pairs}).read_text()
    assert "| network | liver | spleen |" in text and "A note." in text
    assert "| a | 60.0 → 70.0 | – |" in text and "| b | 90.0 → 88.0 | 80.0 → 80.0 |" in text
    assert "| a | liver | below 70 | 1 | 60.0 | 70.0 | +10.00 | 0.0 | 100.0 |" in text
    assert f"| {EVERY_NETWORK} | liver | all | 2 | 75.0 | 79.0 | +4.00 | 50.0 | 50.0 |" in text
    alone = write_networks(tmp_path, "Networks", [], {"default": {("a", "liver"): [(60.0, 70.0)]}}).read_text()
    assert EVERY_NETWORK not in alone


def refined_to(length: int):
    """A stand-in for the job: every bar gets that length."""

    def fake_job(job, dataset_dir, output_dir, **options):
        for path in sorted(Path(dataset_dir).iterdir()):
            case = path.name.partition(".")[0]
            save(Path(output_dir) / case / f"{case}_refined.nii.gz", bar(length), OBLIQUE)

    return fake_job


def options(folders: Path) -> dict:
    pack = pack_of_bars(folders)
    return {
        "organ": str(pack), "label_dir": str(folders / "labels"), "mask_dir": str(folders / "networks" / "*"),
        "output_dir": str(folders / "out"), "presets": "default", "processes": 1, "shape_metrics": False,
    }  # fmt: skip


def rows_of(folders: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(folders / "out" / "networks.csv", newline="", encoding="utf-8") as file:
        return {(row["network"], row["stratum"]): row for row in csv.DictReader(file)}


def test_one_command_compares_all_networks(folders, monkeypatch):
    monkeypatch.setattr(module, "run_job", refined_to(9))
    table = benchmark(**options(folders))
    assert table == str(folders / "out" / "networks.md")
    rows = rows_of(folders)
    assert float(rows["good", "all"]["dsc_before"]) == pytest.approx((dsc(10, 9) + 100) / 2, abs=1e-3)
    assert float(rows["good", "all"]["harmed_percent"]) == 50 and float(rows["good", "all"]["gained_percent"]) == 0
    assert float(rows["weak", "below 70"]["dsc_before"]) == pytest.approx(dsc(10, 3), abs=1e-3)
    assert float(rows["weak", "below 70"]["dsc_after"]) == pytest.approx(dsc(10, 9), abs=1e-3)
    assert float(rows["weak", "below 70"]["gained_percent"]) == 100
    assert rows[EVERY_NETWORK, "all"]["n"] == "4"
    for network in ("good", "weak"):
        assert (folders / "out" / network / "eval" / "table.md").is_file()


def test_a_network_whose_run_fails_stops_no_other_and_is_named(folders, monkeypatch):
    def fails_for_good(job, dataset_dir, output_dir, **options):
        if "good" in str(output_dir):
            raise SystemExit(1)
        refined_to(10)(job, dataset_dir, output_dir, **options)

    monkeypatch.setattr(module, "run_job", refined_to(9))
    benchmark(**options(folders))
    monkeypatch.setattr(module, "run_job", fails_for_good)
    for folder in (folders / "out").glob("*/default"):
        (folder / "report.json").write_text("{}")  # of the earlier run
    with pytest.raises(SystemExit) as stopped:
        benchmark(**options(folders))
    assert stopped.value.code == 1
    assert {network for network, _ in rows_of(folders)} == {"weak"}
    assert "good: cases failed or were left out: it is not in the tables" in (folders / "out/networks.md").read_text()


def test_ctrl_c_ends_the_comparison(folders, monkeypatch):
    def interrupted(job, dataset_dir, output_dir, **options):
        raise SystemExit(130)

    monkeypatch.setattr(module, "run_job", interrupted)
    with pytest.raises(SystemExit) as stopped:
        benchmark(**options(folders))
    assert stopped.value.code == 130 and not (folders / "out" / "networks.md").exists()


def test_a_network_without_a_mask_of_any_label_is_refused_before_the_first_run(folders, monkeypatch):
    save(folders / "networks" / "zebra" / "q7.nii.gz", bar(3), OBLIQUE)
    monkeypatch.setattr(module, "run_job", lambda *args, **kwargs: pytest.fail("a run has begun"))
    with pytest.raises(ValueError, match="no file of .*zebra is named like a label"):
        benchmark(**options(folders))
