"""The cases of a run on a Dask cluster: results are files, only records and messages come back.

A case whose worker ended, as for want of memory, is tried again when all others are done, and alone: so what another
case did to a worker costs no healthy one. A second time it has failed.
"""

from __future__ import annotations

import logging
import pickle
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from dask.utils import parse_bytes, parse_timedelta
from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm import CommClosedError

from ..cases.files import remove_leftovers
from ..cases.find import CASE
from ..organ.checks import shown
from ..report.run_report import CaseRecord
from ..report.words import counted
from ..run.case_work import CaseWork
from ..run.done_before import code_hash
from ..run.messages import log_again
from ..run.workers import Job, count_workers
from .clusters import LOCAL, SLURM, opened
from .serving import Serving, do_case

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"(\w+://)?[^\s/:]+:\d+")
LEAST_MEMORY, LEAST_LIFETIME = "1GB", "1m"  # a worker with less would end before it had done a case
ENDED = (
    "its worker was killed, also when nothing else ran, most often for want of memory: start the run again, with more "
    "--memory"
)


@dataclass(frozen=True)
class Cohort:
    """Where the cases of a run are done; called by its evaluator.

    Attributes:
        cluster: "local", "slurm", or the address of a Dask scheduler that runs.
        memory: of a worker, such as "8GB"; one that takes more is killed. "" see `opened`.
        lifetime: after which a worker ends, such as "55m"; "" for none.

    Raises:
        ValueError: one of them is none of these, or too little.
    """

    cluster: str = LOCAL
    memory: str = ""
    lifetime: str = ""

    def __post_init__(self) -> None:
        if self.cluster not in (LOCAL, SLURM) and not ADDRESS.fullmatch(str(self.cluster)):
            raise ValueError(
                f"cluster must be local, slurm or the address of a scheduler such as tcp://10.0.0.5:8786, not "
                f"{shown(self.cluster)}"
            )
        for name, text, read, least, example in (
            ("memory", self.memory, parse_bytes, LEAST_MEMORY, "8GB"),
            ("lifetime", self.lifetime, parse_timedelta, LEAST_LIFETIME, "55m"),
        ):
            try:
                good = not text or (str(text)[-1].isalpha() and read(str(text)) >= read(least))
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                needs = f"must have a unit and be at least {least}, such as {example}"
                raise ValueError(f"{name} {needs}, not {shown(text)}")

    def __call__(self, workers: int, work: CaseWork, jobs: Sequence[Job]) -> CasesOnDask:
        """Return the cases, to be done.

        Args:
            workers: how many processes, or jobs of SLURM; 0 for as many as the machine has cores and memory for.
            work: what is done; it is sent to every worker once.
            jobs: the cases.

        Raises:
            ValueError: it is not said how many jobs there are to be.
        """
        if self.cluster == SLURM and not workers:
            raise ValueError("say by --workers how many jobs are to be submitted")
        count = count_workers(workers, len(jobs), work.device) if self.cluster == LOCAL else min(workers, len(jobs))
        return CasesOnDask(self, count, work, jobs)


class CasesOnDask:
    """A context whose iteration gives the records of the cases as they come.

    Args:
        cohort: where they are done.
        count: of workers to start.
        work: what is done.
        jobs: the cases.
    """

    def __init__(self, cohort: Cohort, count: int, work: CaseWork, jobs: Sequence[Job]) -> None:
        self.cohort = cohort
        self.count = count
        self.work = work
        self.jobs = jobs
        self.name = f"refine-{uuid.uuid4().hex}"
        self.stack = ExitStack()

    def __enter__(self) -> CasesOnDask:
        try:
            pickled = pickle.dumps(self.work)
        except Exception as error:  # each object has reasons of its own
            raise ValueError(f"the steps cannot be sent to workers ({error}): use refine, with --workers 1") from error
        cohort = self.cohort
        try:
            self.client: Client = self.stack.enter_context(
                opened(cohort.cluster, self.count, str(cohort.memory), str(cohort.lifetime))
            )
            self._serve(Serving(self.name, pickled, code_hash()))
            if cohort.cluster not in (LOCAL, SLURM):  # it goes on without this run
                self.stack.callback(self.client.unregister_worker_plugin, self.name)
        except BaseException:
            self.stack.close()
            raise
        there = len(self.client.scheduler_info(n_workers=-1)["workers"])
        logger.info(f"{counted(there, 'worker')} so far; dashboard: {self.client.dashboard_link}")
        return self

    def _serve(self, serving: Serving) -> None:
        """Give the work to all workers.

        Raises:
            ValueError: one has no bundle, or another version.
        """
        try:
            self.client.register_plugin(serving, name=self.name)
        except (ImportError, AttributeError) as error:  # it cannot read what it is sent
            raise ValueError(
                f"a worker has no such bundle as this one ({error}): start it in the same folder and environment as "
                "this run"
            ) from error

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of workers that have ended already, as by Ctrl+C
            self.stack.close()

    def __iter__(self) -> Iterator[CaseRecord]:
        try:
            yield from self._records()
        except (CancelledError, CommClosedError) as error:
            raise ValueError("the Dask scheduler has ended: start the run again; what is done is kept") from error

    def _records(self) -> Iterator[CaseRecord]:
        again = []
        futures = dict(zip(map(self._submit, self.jobs), self.jobs, strict=True))
        for future in as_completed(list(futures), raise_errors=False):
            job = futures.pop(future)
            if isinstance(future.exception(), KilledWorker):
                again.append(job)
                continue
            record = self._record(future, job)
            future.release()  # a worker that is to end would have to pass it on
            yield record
        for job in again:
            yield self._alone(job)

    def _submit(self, job: Job) -> Future:
        return self.client.submit(do_case, self.name, job, key=f"case-{uuid.uuid4().hex}", pure=False)

    def _alone(self, job: Job) -> CaseRecord:
        """Do a case whose worker ended while no other runs; if that ends too, pass its initial mask through."""
        for attempt in (job, replace(job, lost=ENDED)):
            remove_leftovers(self.work.writer.output_dir / job.paths[CASE])
            future = self._submit(attempt)
            if not isinstance(future.exception(), KilledWorker):
                return self._record(future, attempt)
        record = self.work.begun(job.paths)
        record.reason = f"{job.paths[self.work.key]}: {ENDED}"
        return record

    def _record(self, future: Future, job: Job) -> CaseRecord:
        """Return what happened to a case; log what its worker had to say."""
        error = future.exception()
        if error is not None:
            return self.work.pass_through(job.paths, f"its worker could not do it ({type(error).__name__}: {error})")
        record, messages = future.result()
        log_again(messages)
        return record
