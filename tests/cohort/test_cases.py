"""The cases of a run on Dask: the same results as one after another, whatever becomes of workers."""

import json
import logging
import multiprocessing
import sys
from collections import Counter
from contextlib import contextmanager

import pytest
from monai.bundle import ConfigParser

from scripts.cohort import packages
from tests.helpers.fake_chain import KeepLargestd, KillsItselfd, TakesMemoryd
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import AFFINES, blocks, save
from tests.kills import results

pytest.importorskip("dask_jobqueue", reason="no Dask: pip install -r requirements-cohort.txt")
from distributed import Client, WorkerPlugin  # noqa: E402

from scripts.cohort import clusters  # noqa: E402
from scripts.cohort.cases import Cohort  # noqa: E402
from scripts.cohort.serving import Serving  # noqa: E402

TIMES = ("seconds", "peak_memory_mb", "outputs")
MEMORY = "1.5GB"  # of a worker; what runs on torch and MONAI takes some 0.6


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Ten good masks, one whose case takes all memory, and one that is corrupt."""
    folder = tmp_path_factory.mktemp("masks")
    for number in range(10):
        save(folder / f"case_{number}.nii.gz", blocks(), list(AFFINES.values())[number % len(AFFINES)])
    save(folder / "glutton.nii.gz", blocks())
    save(folder / "corrupt.nii.gz", blocks()).write_bytes(b"broken")
    return folder


class Elsewhere(WorkerPlugin):
    """The work of a run, as a worker meets it that has no such bundle."""

    def __init__(self, *_):
        pass

    def setup(self, worker):
        raise ModuleNotFoundError("No module named 'scripts'")


def cases(output):
    """The cases of a run's report by name, without times and places."""
    report = json.loads((output / "report.json").read_text())
    return {case["case"]: {k: v for k, v in case.items() if k not in TIMES} for case in report["cases"]}


@pytest.mark.slow
def test_a_killed_worker_costs_no_case_one_without_memory_its_own_and_a_rerun_does_what_is_missing(
    masks, tmp_path, caplog
):
    steps = [KillsItselfd("case_3", once=tmp_path / "killed"), TakesMemoryd("glutton")]
    cohort = Cohort(memory=MEMORY)
    with caplog.at_level(logging.INFO):
        run_refine(masks, tmp_path / "many", steps, workers=2, cluster=cohort)
    assert (tmp_path / "killed").exists() and "dashboard: http" in caplog.text
    run_refine(masks, tmp_path / "one", [KillsItselfd("none"), TakesMemoryd("none")])
    many, one = cases(tmp_path / "many"), cases(tmp_path / "one")
    assert list(many) == list(one)
    glutton = many.pop("glutton")
    assert glutton["status"] == "failed" and "glutton.nii.gz: its worker was killed, " in glutton["reason"]
    assert many["corrupt"]["status"] == "failed" and "cannot be read" in many["corrupt"]["reason"]
    assert Counter(case["status"] for case in many.values()) == {"refined": 10, "failed": 1}
    assert many == {name: case for name, case in one.items() if name != "glutton"}
    mask = (masks / "glutton.nii.gz").read_bytes()
    assert results(tmp_path / "many") == {
        name: mask if name == "glutton/glutton_refined.nii.gz" else content
        for name, content in results(tmp_path / "one").items()
        if not name.startswith("glutton/glutton_organ")
    }
    assert not [file for file in (tmp_path / "many").rglob(".*")] and not multiprocessing.active_children()

    caplog.clear()
    with caplog.at_level(logging.INFO):
        run_refine(masks, tmp_path / "many", steps)  # not on Dask: it is the same run
    assert "10 cases done before, skipped" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cluster": "pbs"}, "cluster must be local, slurm or the address of a scheduler such as .*, not 'pbs'"),
        ({"memory": "much"}, "memory must have a unit and be at least 1GB, such as 8GB, not 'much'"),
        ({"memory": "0GB"}, "memory must have a unit"),
        ({"memory": 8}, "memory must have a unit .*, not 8$"),
        ({"memory": "8"}, "memory must have a unit"),
        ({"memory": "900MB"}, "be at least 1GB"),
        ({"lifetime": "1 fortnight"}, "lifetime must have a unit and be at least 1m, such as 55m"),
        ({"lifetime": 55}, "lifetime must have a unit"),
        ({"lifetime": "55"}, "lifetime must have a unit"),
        ({"lifetime": "1s"}, "be at least 1m"),
    ],
)
def test_what_is_no_cluster_memory_or_time_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Cohort(**given)


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tls://login-1:8786", "login-1.site.org:8786"])
def test_addresses_of_schedulers_are_clusters(address):
    assert Cohort(address, memory="1GiB", lifetime="1h").cluster == address


def test_a_scheduler_that_does_not_answer_ends_the_run_plainly(masks, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 1)
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://127.0.0.1:9 .*: start one, or mend"):
        run_refine(masks, tmp_path / "out", cluster=Cohort("tcp://127.0.0.1:9"))


def test_steps_that_cannot_be_sent_to_workers_end_the_run_plainly(masks, tmp_path):
    class Local(KeepLargestd):
        pass

    with pytest.raises(ValueError, match="cannot be sent to workers .*: use refine, with --workers 1"):
        run_refine(masks, tmp_path / "out", [Local()], cluster=Cohort())


def test_a_worker_of_another_version_does_nothing():
    with pytest.raises(ValueError, match="has another version of the bundle .*: start it in the same folder"):
        Serving("run", b"", "of another version").setup(None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("code_hash", lambda: "of another version", "has another version of the bundle"),
        ("Serving", Elsewhere, "a worker has no such bundle as this one .*: start it in the same folder"),
    ],
)
def test_a_run_whose_workers_have_another_version_ends_plainly(masks, tmp_path, monkeypatch, name, value, message):
    @contextmanager
    def here(*_):
        with Client(processes=False, n_workers=1, dashboard_address=None) as client:
            yield client

    monkeypatch.setattr("scripts.cohort.cases.opened", here)
    monkeypatch.setattr(f"scripts.cohort.cases.{name}", value)
    with pytest.raises(ValueError, match=message):
        run_refine(masks, tmp_path / "out", cluster=Cohort())


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    packages.require_packages()
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "distributed" else name)
    with pytest.raises(SystemExit, match="^Error: the package distributed is missing: run pip install -r requ"):
        packages.require_packages()


def test_the_command_is_refine_with_a_cluster(bundle_root):
    parser = ConfigParser()
    parser.read_config([str(bundle_root / "configs" / f"{name}.yaml") for name in ("refine", "cohort")])
    parser.update({"cluster": "slurm", "memory": "4GB", "lifetime": "55m"})
    assert parser.get_parsed_content("evaluator#cluster") == Cohort("slurm", "4GB", "55m")
    assert parser["evaluator"]["report"]["job"] == "refine" and len(parser["initialize"]) == 4


def test_a_job_of_slurm_is_one_worker_of_one_thread_in_the_bundle_s_folder(bundle_root):
    with clusters.dask.config.set({"jobqueue.slurm.account": "lab7", "jobqueue.slurm.walltime": "01:00:00"}):
        with clusters.slurm_cluster("6GiB", "55m") as cluster:
            lines = cluster.job_script().splitlines()
    heads = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert {"-A lab7", "-t 01:00:00", "-n 1", "--cpus-per-task=1", "--mem=6G"} <= {*heads}
    assert f"cd {bundle_root}" in lines and "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False" in lines
    assert "export MALLOC_TRIM_THRESHOLD_=67108864" in lines
    worker = lines[-1]
    assert worker.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    for part in ("--nthreads 1 ", "--memory-limit 6.00GiB", "--nanny", "--lifetime 55m --lifetime-stagger 165s"):
        assert part in worker
    with clusters.slurm_cluster("", "") as cluster:
        assert "--mem=8G" in cluster.job_script() and "--lifetime" not in cluster.job_script()


def test_slurm_needs_a_number_of_jobs_and_sbatch(masks, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="say by --workers how many jobs"):
        run_refine(masks, tmp_path / "out", workers=0, cluster=Cohort("slurm"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="there is no sbatch here"):
        run_refine(masks, tmp_path / "out", workers=2, cluster=Cohort("slurm"))
