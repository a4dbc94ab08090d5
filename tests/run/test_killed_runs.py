"""Runs killed at any moment, and two runs at once."""

import subprocess
import sys

import pytest
from monai.bundle import ConfigWorkflow

from scripts.cases.lock import LOCK, FolderInUse, FolderLock
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import blocks, save


@pytest.mark.slow
@pytest.mark.parametrize(("job", "count"), [("refine", 8), ("train_prior", 2)])
def test_runs_killed_at_random_leave_nothing_partial_and_end_alike_when_run_again(bundle_root, job, count):
    command = [sys.executable, "-m", "tests.kills", job, "--count", str(count)]
    done = subprocess.run(command, cwd=bundle_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("config", ["train.yaml", "train_prior.yaml"])
def test_a_training_keeps_others_out_of_its_folder_while_it_is_at_work(bundle_root, organ, tmp_path, config):
    job = ConfigWorkflow(
        config_file=str(bundle_root / "configs" / config),
        meta_file=None,
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle_root),
        organ=str(organ[0]) if config == "train_prior.yaml" else "hippocampus",
        dataset_dir=str(organ[1] / "labels"),
        run_dir=str(tmp_path / "run"),
    )
    folder = tmp_path / "run" / ("egg" if config == "train_prior.yaml" else "")
    lock = FolderLock(folder)
    (folder / f".{2**22 + 1}-checkpoint.pt").touch()  # what a killed training was writing
    job.initialize()
    with pytest.raises(SystemExit, match="run.* is in use by process"):
        job.parser.get_parsed_content("folder_lock")
    lock.release()
    job.parser.get_parsed_content("folder_lock")
    with pytest.raises(FolderInUse):
        FolderLock(folder)
    assert [file.name for file in folder.iterdir()] == [LOCK]
    job.finalize()
    assert list(folder.iterdir()) == []


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
