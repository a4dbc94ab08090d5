"""Dask clusters whose workers do a case at a time with one thread."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
from dask.utils import parse_timedelta
from dask_jobqueue import SLURMCluster
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

ROOT = Path(__file__).resolve().parents[2]
LOCAL, SLURM = "local", "slurm"
SCHEDULER = {
    "distributed.scheduler.worker-saturation": 1.0,  # cases wait with the scheduler, not with a worker that may end
    "distributed.scheduler.allowed-failures": 0,  # a case whose worker ended comes back at once, to be tried alone
    "distributed.deploy.lost-worker-timeout": "60s",  # in which one that ended may start again: it loads all packages
}
WORKER = {  # only Dask's own data could be spilled, and a worker that pauses may never go on
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
ALLOCATION = {  # a worker keeps memory that it is to use again: with Dask's own values, cases took longer
    "MALLOC_TRIM_THRESHOLD_": 64 << 20,
    "MALLOC_MMAP_THRESHOLD_": 32 << 20,
}
NANNY = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ALLOCATION.items()}
JOB_MEMORY = "8GB"  # of a job, where neither the option nor Dask's configuration says how much
STAGGER = 0.05  # share of their lifetime by which workers end earlier or later than others
ANSWER_SECONDS = 30


@contextmanager
def opened(cluster: str, workers: int, memory: str, lifetime: str) -> Iterator[Client]:
    """Give a client of a cluster; what was started for it ends with the block.

    Args:
        cluster: "local", "slurm" or the address of a scheduler that runs.
        workers: how many processes or jobs; of no matter for a scheduler that runs.
        memory: of a worker, such as "8GB"; "" for its share of the machine's, or what the configuration of
            dask-jobqueue says.
        lifetime: after which a worker ends, such as "55m", and another takes its place; "" for none.

    Raises:
        ValueError: no scheduler answers, or there is no SLURM here.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # dask_jobqueue ends the process by it
    with warnings.catch_warnings(), quiet(), dask.config.set(SCHEDULER | WORKER | NANNY):
        warnings.simplefilter("ignore")  # of ports that are taken
        if cluster == LOCAL:
            with local_cluster(workers, memory, lifetime) as local, Client(local) as client:
                local.adapt(minimum=workers, maximum=workers)  # one that ends is followed by another
                yield client
        elif cluster == SLURM:
            if shutil.which("sbatch") is None:
                raise ValueError("there is no sbatch here: start the run where jobs of SLURM can be submitted")
            with slurm_cluster(memory, lifetime) as jobs, Client(jobs) as client:
                jobs.adapt(minimum_jobs=workers, maximum_jobs=workers)
                yield client
        else:
            try:
                client = Client(cluster, timeout=ANSWER_SECONDS)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"no Dask scheduler answers at {cluster} ({error}): start one, or mend the address"
                ) from error
            with client:
                yield client


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Dask says of its workers: of what matters, the cases' records tell."""
    dask_logger = logging.getLogger("distributed")
    level = dask_logger.level
    dask_logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        dask_logger.setLevel(level)


def local_cluster(workers: int, memory: str, lifetime: str) -> LocalCluster:
    """Return a cluster of processes on this machine, which others cannot reach."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=memory or MEMORY_LIMIT // workers,
        dashboard_address="127.0.0.1:8787",
        silence_logs=logging.CRITICAL,
        lifetime=lifetime or None,
        lifetime_stagger=_stagger(lifetime),
        lifetime_restart=bool(lifetime),
    )


def slurm_cluster(memory: str, lifetime: str) -> SLURMCluster:
    """Return a cluster whose workers are jobs of SLURM, none of which is submitted yet.

    Queue, account, walltime and the like are those of dask-jobqueue's configuration (`jobqueue.yaml`).
    """
    lives = ["--lifetime", lifetime, "--lifetime-stagger", _stagger(lifetime)] if lifetime else []
    return SLURMCluster(
        cores=1,
        processes=1,
        memory=memory or dask.config.get("jobqueue.slurm.memory") or JOB_MEMORY,
        worker_extra_args=[*dask.config.get("jobqueue.slurm.worker-extra-args"), "--no-dashboard", *lives],
        job_script_prologue=[*dask.config.get("jobqueue.slurm.job-script-prologue"), *_prologue()],
    )


def _prologue() -> Sequence[str]:
    """Return the lines of a job before its worker starts: where the bundle is, `WORKER` and `ALLOCATION`."""
    settings = {name.upper().replace(".", "__").replace("-", "_"): value for name, value in WORKER.items()}
    exports = {f"DASK_{name}": value for name, value in settings.items()} | ALLOCATION
    return [*(f"export {name}={value}" for name, value in exports.items()), f"cd {shlex.quote(str(ROOT))}"]


def _stagger(lifetime: str) -> str:
    return f"{parse_timedelta(lifetime) * STAGGER:.0f}s" if lifetime else "0s"
