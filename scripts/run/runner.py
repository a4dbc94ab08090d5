"""The evaluator of the `inference` and `refine` jobs: one bad case never stops the others.

A `SupervisedEvaluator` whose data loader yields dictionaries of *paths*, so that reading, network and refinement of a
case all run inside its iteration, see `case_work`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.transforms import Compose
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..cases.find import CASE, CaseDataset
from ..cases.given import GIVEN
from ..cases.lock import LOCK, FolderInUse, FolderLock
from ..cases.part import named
from ..cases.writer import CaseWriter
from ..organ.pack import OrganPack
from ..report.html import PAGE, try_page
from ..report.lines import case_line, last_lines, needs_a_look
from ..report.run_report import (
    FAILED,
    REFINED,
    SEGMENTED,
    UNCHANGED,
    CaseRecord,
    RunReport,
    shown,
)
from ..report.words import counted
from .case_work import CaseWork
from .done_before import done_before, prior_hashes, settings_hash
from .memory import keep_few_compiled
from .options import is_true
from .workers import Job, Workers, count_workers

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # exit code of what Ctrl+C ends, as shells have it


class CaseEvaluator(SupervisedEvaluator):
    """Runs cases one by one, or side by side: see `CaseWork` for what is done with each.

    What an earlier run has done in the same way is not done again, see `done_before`.

    Args:
        device: where the network runs.
        val_data_loader: the cases, dictionaries of paths.
        network: the segmentation network; not called for a case with a `pred` after preprocessing.
        preprocessing: paths → `image` or `pred` tensors, channel first.
        postprocessing: `pred` of the network (or the mask read) → `pred`, `initial`, `pred_shapes`.
        writer: writes the results.
        report: takes the records.
        inferer: how the network is applied.
        val_handlers: ignite handlers, such as a `CheckpointLoader`.
        amp: whether the network runs in mixed precision (on CUDA).
        seed: seed of every generator at the start of every case, so that a case's result depends on no other.
        html: whether the run's page, `report.html`, is written at its end.
        html_cases: how many cases it draws, the worst first; 0 for as many as it has room for.
        overwrite: whether cases that were done before are done again.
        workers: how many processes do cases side by side, see `count_workers`; with several, handlers do not see the
            cases' data.
        cluster: does the cases elsewhere: given `workers`, the work and the jobs it returns a context that gives their
            records as they come; None for this machine.
        pack: the run's organ pack, for the page; None to read the one that the report names.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: CaseDataset,
        network: torch.nn.Module,
        preprocessing: Compose,
        postprocessing: Compose,
        writer: CaseWriter,
        report: RunReport,
        inferer: Inferer | None = None,
        val_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        seed: int = 0,
        html: bool | str = False,
        html_cases: int = 0,
        overwrite: bool | str = False,
        workers: int = 1,
        cluster: Callable[[int, CaseWork, Sequence[Job]], AbstractContextManager[Iterable[CaseRecord]]] | None = None,
        pack: OrganPack | None = None,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            val_data_loader=val_data_loader,  # type: ignore[arg-type]
            network=network.to(device),
            inferer=inferer,
            val_handlers=val_handlers,
            amp=amp,
            decollate=False,
        )
        self.cases = val_data_loader
        self.work = CaseWork(
            val_data_loader.key,
            val_data_loader.evidence,
            self.state.device,
            self.network,
            self.inferer,
            preprocessing,
            postprocessing,
            writer,
            amp,
            seed,
        )
        self.writer = writer
        self.report = report
        self.html, self.html_cases = is_true(html), html_cases
        self.overwrite = is_true(overwrite)
        self.workers = workers
        self.cluster = cluster
        self.pack = pack
        self.progress: tqdm | None = None
        self.earlier: dict[str, list[str]] = {}

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Run all cases and write `report.json`, and `report.html` where that is asked for.

        Ctrl+C ends the run after what is done: that is kept, reported and shown.

        Raises:
            SystemExit: with a plain message, where no case can be found, nothing can be written, or the folder holds
                the results of another job; with the code 130 after Ctrl+C.
        """
        keep_few_compiled()
        if self.cases.problem:
            raise SystemExit(f"Error: {self.cases.problem}")
        try:
            self.writer.check(self.cases)
            lock = FolderLock(self.writer.output_dir, named(LOCK, self.report.part))
        except FolderInUse as error:
            raise SystemExit(f"Error: {error}") from error
        except OSError as error:
            raise SystemExit(
                f"Error: cannot write to output_dir {self.writer.output_dir} ({error}): give another folder"
            ) from error
        except ValueError as error:
            raise SystemExit(f"Error: {error}") from error
        try:
            self._refuse_mixing()
            self._run_all(global_epoch)
        except OSError as error:
            raise SystemExit(
                f"Error: {self.report.path} cannot be written ({error}): make room, or give another folder"
            ) from error
        finally:
            lock.release()

    def _refuse_mixing(self) -> None:
        other = self.report.other_run()
        if other:
            raise SystemExit(
                f"Error: {self.writer.output_dir} holds the results of another job ({other}), which this one would "
                "overwrite: give another --output_dir, or remove the folder"
            )

    def _run_all(self, global_epoch: int) -> None:
        page = self.report.path.with_name(PAGE)
        if not self.report.part:
            page.unlink(missing_ok=True)  # an earlier run's
        self.earlier = self.report.files_before()
        todo = self._start()
        stopped = False
        try:
            bar = tqdm(total=len(self.cases), initial=len(self.cases) - len(todo), unit="case", disable=None)
            with logging_redirect_tqdm(), bar as self.progress:
                self._run_cases(todo, global_epoch)
        except KeyboardInterrupt:
            stopped = True
            logger.warning(f"stopped after {len(self.report.records)} of {counted(len(self.cases), 'case')}")
        finally:
            self.report.finish()
        for line in last_lines(self.report.records, self.report.as_dict()["summary"]):
            logger.info(line)
        logger.info(f"figures: {self.report.path}")
        if self.report.part:
            logger.info(f"when all parts have ended: python -m scripts merge {self.writer.output_dir}")
        elif self.html:
            for case in self.state.output or []:  # the page reads files: what was written need not stay in memory
                for key in ("initial", "pred_shapes", "pred_fine", f"pred{GIVEN}"):
                    case.pop(key, None)
            try_page(page.parent, self.pack, self.html_cases)
        if stopped:
            raise SystemExit(INTERRUPTED)

    def _run_cases(self, todo: list[dict[str, Any]], global_epoch: int) -> None:
        """Run the cases that are left, in this process or in others."""
        self.data_loader, self.state.epoch_length = todo, len(todo)
        if not todo:
            return
        jobs = [Job(paths, self.earlier.get(paths[CASE], [])) for paths in todo]
        count = count_workers(self.workers, len(todo), self.work.device)
        if self.cluster is not None:
            with self.cluster(self.workers, self.work, jobs) as self.data_loader:
                super().run(global_epoch)
        elif count > 1:
            with Workers(count, self.work, jobs) as self.data_loader:
                super().run(global_epoch)
        else:
            super().run(global_epoch)

    def _start(self) -> list[dict[str, Any]]:
        """Start the report with what was done before; return the cases that are left to do."""
        settings = settings_hash(self.work, self.report.settings, self.pack)
        done = [] if self.overwrite else done_before(self.cases, self.work, self.report, settings)
        self.report.start(str(self.state.device), settings, done, prior_hashes(self.pack))
        if done:
            logger.info(f"{counted(len(done), 'case')} done before, skipped; --overwrite true does them again")
        return [case for case in self.cases if shown(case[CASE]) not in self.report.by_case]

    def finish(self) -> None:
        """End the process with exit code 1 where a case was not written; for the config's `finalize`.

        Raises:
            SystemExit: a case failed.
        """
        if self.report.count(FAILED):
            raise SystemExit(1)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any] | CaseRecord) -> dict[str, Any]:
        """Run one case, or take the record of one that another process ran; say and report what happened."""
        engine.state.output = None  # the volumes of the case before
        if isinstance(batchdata, dict):
            record, data = self.work(batchdata, self.earlier.get(batchdata[CASE], []))
        else:
            record, data = batchdata, {}
        try:
            self.report.add(record)
        except OSError as error:
            logger.error(f"{self.report.path} cannot be written now ({error}); it is tried again at the end")
        level = logging.ERROR if record.status == FAILED else logging.WARNING if needs_a_look(record) else logging.INFO
        logger.log(level, f"[{len(self.report.by_case)}/{len(self.cases)}] {case_line(record)}")
        if self.progress is not None:
            self.progress.set_postfix_str(shown(f"{record.case} {record.status}"), refresh=False)
            self.progress.update()
        engine.state.output = [data]
        if data and record.status in (REFINED, UNCHANGED, SEGMENTED):
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
