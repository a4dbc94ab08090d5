"""Cases side by side: the same results as one after another, whatever becomes of single processes."""

import json
import logging
import multiprocessing

import pytest
import torch

from scripts.run import workers
from scripts.run.workers import MEMORY_GB, count_workers
from tests.helpers.fake_chain import KeepLargestd, KillsItselfd
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import AFFINES, blocks, save
from tests.kills import results

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TIMES = ("seconds", "peak_memory_mb", "outputs")


@pytest.fixture
def masks(tmp_path):
    """Five good cases on several grids, one that kills its process, and one that is corrupt."""
    for name, affine in zip("abdef", [*AFFINES.values()] * 2, strict=False):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks(), affine)
    save(tmp_path / "masks" / "corrupt.nii.gz", blocks()).write_bytes(b"broken")
    save(tmp_path / "masks" / "killer.nii.gz", blocks())
    return tmp_path / "masks"


def cases(output):
    """The cases of a run's report by name, without times and places."""
    report = json.loads((output / "report.json").read_text())
    return {case["case"]: {k: v for k, v in case.items() if k not in TIMES} for case in report["cases"]}


def test_a_killed_process_costs_its_case_and_the_others_are_as_one_after_another(masks, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run_refine(masks, tmp_path / "many", [KillsItselfd("killer")], workers=2)
    messages = list(caplog.messages)  # of this run alone
    run_refine(masks, tmp_path / "one", [KillsItselfd("nothing")])
    many, one = cases(tmp_path / "many"), cases(tmp_path / "one")
    assert list(many) == list(one)
    killed = many.pop("killer")
    assert killed["status"] == "failed" and "killer.nii.gz: its process was killed, " in killed["reason"]
    assert many == {name: case for name, case in one.items() if name != "killer"}
    files = results(tmp_path / "one")
    mask = (masks / "killer.nii.gz").read_bytes()
    assert results(tmp_path / "many") == {
        name: mask if name == "killer/killer_refined.nii.gz" else content
        for name, content in files.items()
        if not name.startswith("killer/killer_organ")
    }
    assert not [file for file in (tmp_path / "many").rglob(".*")] and not multiprocessing.active_children()
    said = [message for message in messages if message.startswith("[7/7] ")]
    assert len(said) == 1 and "7 cases: 5 refined, 2 failed; " in "\n".join(messages)


def test_ctrl_c_ends_all_processes_and_keeps_what_is_done(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.run.runner.case_line", interrupt)
    with pytest.raises(SystemExit) as stop:
        run_refine(masks, tmp_path / "out", [KeepLargestd()], workers=2, html=True)
    assert stop.value.code == 130 and not multiprocessing.active_children()
    assert len(cases(tmp_path / "out")) == 1 and (tmp_path / "out" / "report.html").is_file()


def interrupt(record):
    raise KeyboardInterrupt


def test_steps_that_cannot_be_sent_to_processes_are_done_in_this_one(masks, tmp_path, caplog):
    class Local(KeepLargestd):
        pass

    run_refine(masks, tmp_path / "out", [Local()], workers=2)
    assert "one after another, since steps cannot be sent" in caplog.text and len(cases(tmp_path / "out")) == 7


@pytest.mark.parametrize(
    ("asked", "number", "device", "free_gb", "expected"),
    [
        (3, 10, CPU, 1, 3),  # as asked for
        (3, 2, CPU, 99, 2),  # but no more than there are cases
        (0, 10, CPU, 99, 4),  # one a core
        (0, 10, CPU, 2.5 * MEMORY_GB, 2),  # as far as memory goes
        (0, 10, CPU, 0.1, 1),
        (0, 3, CPU, 99, 1),  # a few cases are not worth it
        (0, 10, GPU, 99, 1),
        (2, 10, GPU, 99, 2),
        (0, 0, CPU, 99, 1),
    ],
)
def test_there_are_as_many_processes_as_asked_for_or_as_cores_and_memory_allow(
    monkeypatch, asked, number, device, free_gb, expected
):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setattr(workers, "_free_gb", lambda: free_gb)
    assert count_workers(asked, number, device) == expected
