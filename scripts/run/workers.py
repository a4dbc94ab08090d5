"""Cases side by side, in processes of one thread each; a process that is killed costs its case only.

Processes are spawned, since a fork of one that has used torch's threads may hang. Each gets one case after another, so
that what it was at when it ended is known. Only records and log messages come back: results are files.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..cases.files import remove_leftovers
from ..cases.find import CASE
from ..report.run_report import CaseRecord
from .case_work import CaseWork
from .messages import collected, log_again

logger = logging.getLogger(__name__)

FEWEST_CASES = 4  # from which on processes are worth the seconds that they take to start
MEMORY_GB = 4  # that must be free for each process, where their number is left to us
LEARNT, READY = "learnt", "ready"  # what a process says: it has its code; it has its work
SURROUNDINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def count_workers(asked: int, cases: int, device: torch.device) -> int:
    """Return how many processes do so many cases.

    Args:
        asked: how many the user wants; 0 for as many as there are cores and `MEMORY_GB` of free memory, but one on a
            GPU, which a single process keeps busy, and for few cases.
        cases: how many there are to do.
        device: where they are done.
    """
    if asked or device.type != "cpu" or cases < FEWEST_CASES:
        return max(1, min(asked, cases))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, cases, int(_free_gb() // MEMORY_GB)))


def _free_gb() -> float:
    """Return how much memory programs can still have; half of all where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / (1 << 20)
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 31)


@dataclass(frozen=True)
class Job:
    """A case to do.

    Attributes:
        paths: the case's dictionary of paths.
        earlier: names of the files that an earlier run's report lists for it.
        lost: how the process ended that was at it, "" at first; then the initial mask is passed through.
    """

    paths: dict[str, Any]
    earlier: Sequence[str] = ()
    lost: str = ""

    def done(self, work: CaseWork) -> CaseRecord:
        """Do it; return what happened."""
        return work.pass_through(self.paths, self.lost) if self.lost else work(self.paths, self.earlier)[0]


@dataclass
class Worker:
    """A process, and what it is at."""

    process: BaseProcess
    connection: Connection
    job: Job | None = None


class Workers:
    """The cases of a run, done side by side: a context whose iteration gives their records as they come.

    The process of a case may be killed, as by the system for want of memory. Then another passes the initial mask
    through, the case has failed, and the rest goes on. Where processes cannot be started, this one does the cases.

    Args:
        count: of processes.
        work: what is done; it is sent to the processes.
        jobs: the cases.
    """

    def __init__(self, count: int, work: CaseWork, jobs: Sequence[Job]) -> None:
        self.work = work
        self.jobs = jobs
        self.count = min(count, len(jobs))
        self.context = multiprocessing.get_context("spawn")
        self.running: list[Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running:
            worker.process.kill()
            worker.process.join()
            self._clean(worker)
        self.running = []

    def __iter__(self) -> Iterator[CaseRecord]:
        waiting = deque(self.jobs)
        pickled = self._pickled()
        self.running = [self._start() for _ in range(self.count)] if pickled else []
        while self.running:
            for connection in wait([worker.connection for worker in self.running]):
                worker = next(one for one in self.running if one.connection is connection)
                try:
                    said = worker.connection.recv()
                    if said == LEARNT:
                        worker.connection.send_bytes(pickled)
                        continue
                    if said != READY:
                        record, messages = said
                        log_again(messages)
                        yield record
                    worker.job = waiting.popleft() if waiting else None
                    worker.connection.send(worker.job)
                except (EOFError, OSError):  # it has ended
                    yield from self._lost(worker, waiting)
                    continue
                if worker.job is None:
                    self._end(worker)
        for job in waiting:
            yield job.done(self.work)

    def _pickled(self) -> bytes:
        try:
            return pickle.dumps(self.work)
        except Exception as error:  # each object has reasons of its own
            logger.warning(f"cases are done one after another, since steps cannot be sent to processes: {error}")
            return b""

    def _start(self) -> Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=serve, args=(theirs,), daemon=True)
        with surroundings():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def _end(self, worker: Worker) -> str:
        """Wait for the end of a process; return how it ended."""
        self.running.remove(worker)
        worker.process.join()
        worker.connection.close()
        code = worker.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "its process was killed, most often for want of memory: start the run again, with fewer --workers"
        return f"its process ended by itself ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    def _clean(self, worker: Worker) -> None:
        """Remove what a process was writing when it ended, and nothing else: others may be at work in the folder."""
        if worker.job is not None:
            remove_leftovers(self.work.writer.output_dir / worker.job.paths[CASE])

    def _lost(self, worker: Worker, waiting: deque[Job]) -> Iterator[CaseRecord]:
        """Go on without a process that has ended; give the record of its case if that cannot even be passed through."""
        how, job = self._end(worker), worker.job
        if job is None:
            logger.warning(f"one process less, since it did not start: {how}")
            return
        self._clean(worker)
        if job.lost:
            record = self.work.begun(job.paths)
            record.reason = f"{job.paths[self.work.key]}: {how}"
            yield record
        else:
            waiting.appendleft(replace(job, lost=how))
        if waiting:
            self.running.append(self._start())


@contextmanager
def surroundings() -> Iterator[None]:
    """What is started here has one thread, and takes no Ctrl+C, which the run's own process answers."""
    before = {name: os.environ.get(name) for name in SURROUNDINGS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(SURROUNDINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def serve(connection: Connection) -> None:
    """Do one case after another, in a process of its own, until there is none left or the run's process has ended."""
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    torch.set_num_threads(1)
    connection.send(LEARNT)
    work: CaseWork = pickle.loads(connection.recv_bytes())
    connection.send(READY)
    while (job := connection.recv()) is not None:
        with collected() as messages:
            record = job.done(work)
        connection.send((record, messages))


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)
