"""Runs killed at any moment, and two runs at once."""

import json
import random
import time

import pytest

from scripts.cases.lock import LOCK, FolderInUse, FolderLock
from scripts.report.run_report import read_report
from tests.helpers.killed_runs import killed_refine, run_refine
from tests.helpers.volumes import AFFINES, blocks, save

REPORTS = ("report.json", "report.jsonl")


def results(folder):
    """Return name → bytes of what a run wrote under a final name, without its report."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.name not in REPORTS}


@pytest.mark.slow
def test_runs_killed_at_random_leave_nothing_partial_and_end_alike_when_run_again(tmp_path):
    for number in range(12):
        affine = list(AFFINES.values())[number % len(AFFINES)]
        save(tmp_path / "masks" / f"case_{number:02d}.nii.gz", blocks(), affine)
    began = time.perf_counter()
    run_refine(tmp_path / "masks", tmp_path / "whole")
    seconds = time.perf_counter() - began
    expected = results(tmp_path / "whole")
    draw = random.Random(0)
    cut_short = 0
    for number in range(10):
        output = tmp_path / f"out_{number}"
        cut_short += killed_refine(tmp_path / "masks", output, draw.uniform(0.1, 0.9) * seconds) != 0
        found = results(output)
        assert found.items() <= expected.items()
        if (output / "report.json").is_file():
            finished = [case["case"] for case in read_report(output)["cases"]]
            done = [f"case_{n:02d}" for n in range(12) if f"case_{n + 1:02d}/case_{n + 1:02d}_initial.nii.gz" in found]
            assert set(done) <= set(finished)  # a case begins when the one before is told
        run_refine(tmp_path / "masks", output)
        assert results(output) == expected
        assert not [file for file in output.rglob(".*")] and not (output / "report.jsonl").exists()
        assert json.loads((output / "report.json").read_text())["summary"]["refined"] == 12
    assert cut_short


def test_a_folder_is_locked_while_a_run_is_at_work(tmp_path):
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    lock = FolderLock(tmp_path / "out")
    with pytest.raises(FolderInUse, match="out is in use by process .* on .*: wait"):
        FolderLock(tmp_path / "out")
    with pytest.raises(SystemExit, match="is in use by process"):
        run_refine(tmp_path / "masks", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [LOCK]
    lock.release()
    run_refine(tmp_path / "masks", tmp_path / "out")
    assert not (tmp_path / "out" / LOCK).exists()


def test_a_lock_that_no_process_holds_is_taken_over(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on elsewhere\n")
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_were_writing_is_removed_and_nothing_else(tmp_path):
    dead = 2**22 + 1  # above the highest number that a process can have
    for name in (f".{dead}-report.json", f"a/.{dead}-a_refined.nii.gz", "a/.1-a_refined.nii.gz", "a/.notes-old"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    FolderLock(tmp_path).release()
    assert sorted(file.name for file in tmp_path.rglob(".*")) == [".1-a_refined.nii.gz", ".notes-old"]
