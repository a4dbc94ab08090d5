"""The fuzzer: that it counts what goes wrong, and that nothing does in a few of its inputs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import harness
from tests.fuzz.fuzz import ORDER, make_job
from tests.fuzz.harness import Job, run


def raises(*args, **options):
    raise KeyError("x")


def refuses(*args, **options):
    raise SystemExit("Error: masks/ does not exist")


def takes_for_ever(*args, **options):
    time.sleep(60)


def takes_memory(*args, **options):
    return np.ones(30_000_000)


def reports_nothing(*args, **options):
    pass


def reports(output_dir, **options):
    Path(output_dir).mkdir()
    record = '{"case": "a", "status": "failed", "structures": [], "inputs": {"pred": "%s"}, "outputs": {}}'
    mask = Path(output_dir).parent / "masks" / "a.nii.gz"
    (Path(output_dir) / "report.json").write_text(f'{{"cases": [{record % mask}]}}')


@pytest.mark.parametrize(
    ("act", "troubles"),
    [
        (raises, {"traceback", "unreported"}),
        (refuses, {"unreported"}),
        (takes_for_ever, {"hang", "unreported"}),
        (takes_memory, {"memory", "unreported"}),
        (reports_nothing, {"unreported"}),
        (reports, {"no page", "traceback"}),  # the exit code says nothing of the case that failed
    ],
)
def test_what_goes_wrong_is_counted(tmp_path, monkeypatch, act, troubles):
    monkeypatch.setattr(harness, "run_job", lambda job, **options: act(**options))
    monkeypatch.setattr(harness, "START_SECONDS", 3.0)
    monkeypatch.setattr(harness, "CASE_SECONDS", 0.0)
    monkeypatch.setattr(harness, "MEMORY_MB", 150.0)
    found = run(Job("made up", [0], tmp_path, [tmp_path / "masks" / "a.nii.gz"], {}))
    assert {what for what, count in found.troubles.items() if count} == troubles


def test_a_run_may_be_refused_in_one_line_where_its_settings_are_odd(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "run_job", lambda job, **options: refuses())
    found = run(Job("options", [0], tmp_path, [tmp_path / "a.nii.gz"], {}, may_refuse=True))
    assert not any(found.troubles.values()) and found.statuses == {"refused": 1}


@pytest.mark.parametrize("kind", sorted(set(ORDER)))
def test_the_same_seed_gives_the_same_inputs(tmp_path, kind):
    pack = tmp_path / "pack"
    pack.mkdir()
    contents = []
    for seed in (3, 3, 4):
        folder = tmp_path / "run"
        make_job(kind, [5, 6], folder, pack, seed)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        contents.append({os.fsencode(file.relative_to(folder)): file.read_bytes() for file in files})
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.slow
def test_nothing_goes_wrong_in_sixty_inputs(bundle_root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--count", "60", "--seed", "5", "--output_dir", str(tmp_path)],
        cwd=bundle_root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    all_kinds = done.stdout.splitlines()[-1]
    assert all_kinds.startswith("| all | 60 |") and "| 0 | 0 | 0 | 0 | 0 |" in all_kinds
