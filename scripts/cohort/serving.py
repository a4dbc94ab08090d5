"""What a Dask worker does: it gets the work of a run once, then cases, and sends back their records."""

from __future__ import annotations

import logging
import pickle
import socket
from typing import Any

import torch
from distributed import Worker, WorkerPlugin, get_worker

from ..report.run_report import CaseRecord
from ..run.case_work import CaseWork
from ..run.done_before import code_hash
from ..run.memory import keep_few_compiled
from ..run.messages import collected
from ..run.workers import Job


class Serving(WorkerPlugin):
    """The work of a run in a worker, which takes it when it starts.

    Args:
        name: of the run.
        pickled: its `CaseWork`.
        code: hash of the code and packages that it was made with.
    """

    def __init__(self, name: str, pickled: bytes, code: str) -> None:
        self.name = name
        self.pickled = pickled
        self.code = code
        self.work: CaseWork | None = None

    def setup(self, worker: Worker) -> None:
        """Read the work.

        Raises:
            ValueError: the worker would do it in another way.
        """
        if code_hash() != self.code:
            raise ValueError(
                f"the worker on {socket.gethostname()} has another version of the bundle or of its packages: start it "
                "in the same folder and environment as this run"
            )
        torch.set_num_threads(1)
        keep_few_compiled()
        self.work = pickle.loads(self.pickled)


def do_case(run: str, job: Job) -> tuple[CaseRecord, list[logging.LogRecord]]:
    """Do a case of a run in a worker; return what happened and what was said of it."""
    plugin: Any = get_worker().plugins[run]
    with collected() as messages:
        record = job.done(plugin.work)
    return record, messages
