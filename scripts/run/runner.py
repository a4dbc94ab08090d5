"""The evaluator of the `inference` and `refine` jobs: one bad case never stops the others.

A `SupervisedEvaluator` whose data loader yields dictionaries of *paths*, so that reading, network and refinement of a
case all run inside its iteration, where whatever goes wrong is caught, said and recorded, and the initial mask passed
through.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.transforms import Compose
from monai.utils import set_determinism
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..cases.errors import READ_ERRORS, CaseError
from ..cases.find import CASE, REASON, CaseDataset, is_nrrd
from ..cases.lock import FolderInUse, FolderLock
from ..cases.read import check_header, header_warnings, open_volume, read_values
from ..cases.sources import GIVEN
from ..cases.writer import CaseWriter
from ..organ.pack import OrganPack
from ..report.html import PAGE, try_page
from ..report.lines import case_line, last_lines, needs_a_look
from ..report.outcome import outcome_of
from ..report.run_report import (
    FAILED,
    KEPT,
    REFINED,
    SEGMENTED,
    UNCHANGED,
    CaseRecord,
    RunReport,
    outputs_of,
    peak_memory_mb,
    shown,
)
from ..report.words import counted
from .options import is_true

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # exit code of what Ctrl+C ends, as shells have it
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class CaseEvaluator(SupervisedEvaluator):
    """Runs cases one by one: preprocessing, network (where the case has no mask yet), postprocessing, writing.

    A case whose data are no good keeps its initial mask ("kept") or, without one, is "failed"; a case stopped by an
    error of the program is "failed" too, with the traceback in the log. See `CaseRecord` for what is reported.

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
        self.preprocessing = preprocessing
        self.postprocessing = postprocessing
        self.writer = writer
        self.report = report
        self.seed = seed
        self.html = is_true(html)
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
        if self.cases.problem:
            raise SystemExit(f"Error: {self.cases.problem}")
        try:
            self.writer.check(self.cases)
            lock = FolderLock(self.writer.output_dir)
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
        page.unlink(missing_ok=True)  # an earlier run's
        self.earlier = outputs_of(self.writer.output_dir)
        self.report.start(str(self.state.device))
        stopped = False
        try:
            with logging_redirect_tqdm(), tqdm(total=len(self.cases), unit="case", disable=None) as self.progress:
                super().run(global_epoch)
        except KeyboardInterrupt:
            stopped = True
            logger.warning(f"stopped after {len(self.report.records)} of {counted(len(self.cases), 'case')}")
        finally:
            self.report.finish()
        for line in last_lines(self.report.records, self.report.as_dict()["summary"]):
            logger.info(line)
        logger.info(f"figures: {self.report.path}")
        if self.html:
            for case in self.state.output or []:  # the page reads files: what was written need not stay in memory
                for key in ("initial", "pred_shapes", f"pred{GIVEN}"):
                    case.pop(key, None)
            try_page(page.parent, self.pack)
        if stopped:
            raise SystemExit(INTERRUPTED)

    def finish(self) -> None:
        """End the process with exit code 1 where a case was not written; for the config's `finalize`.

        Raises:
            SystemExit: a case failed.
        """
        if self.report.count(FAILED):
            raise SystemExit(1)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run one case; only `KeyboardInterrupt` and its like escape."""
        engine.state.output = None  # the volumes of the case before
        set_determinism(self.seed)
        inputs = {key: str(value) for key, value in batchdata.items() if key not in (CASE, REASON)}
        record = CaseRecord(batchdata[CASE], inputs)
        data: dict[Any, Any] = {}
        record.reason = batchdata[REASON] or self.writer.refusal(batchdata[CASE])
        if not record.reason:
            record.warnings += [f"no {k} file fits this case's name" for k in self.cases.evidence if k not in inputs]
            data = self._run_case(batchdata, record)
        record.peak_memory_mb = peak_memory_mb()
        try:
            self.report.add(record)
        except OSError as error:
            logger.error(f"{self.report.path} cannot be written now ({error}); it is tried again at the end")
        level = logging.ERROR if record.status == FAILED else logging.WARNING if needs_a_look(record) else logging.INFO
        logger.log(level, f"[{len(self.report.records)}/{len(self.cases)}] {case_line(record)}")
        if self.progress is not None:
            self.progress.set_postfix_str(shown(f"{record.case} {record.status}"), refresh=False)
            self.progress.update()
        engine.state.output = [data]
        if record.status in (REFINED, UNCHANGED, SEGMENTED):
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _run_case(self, paths: dict[str, Any], record: CaseRecord) -> dict[Any, Any]:
        """Run the stages, write, and fill in the record; return the case's data as far as they came."""
        source = paths[self.cases.key]
        data: dict[Any, Any] = {k: v for k, v in paths.items() if k not in (CASE, REASON)}
        try:
            self.writer.clear(paths, self.earlier.get(record.case, []))
            record.warnings += [warning for path in record.inputs.values() for warning in header_warnings(path)]
            if self.cases.key == "image":
                check_header(open_volume(source), source)
            self._apply(self.preprocessing, data, record)
            given = data.get(f"pred{GIVEN}")
            record.left_alone = list(getattr(given, "others", []))
            record.warnings += getattr(given, "warnings", [])
            if "pred" not in data:
                started = time.perf_counter()
                data["pred"] = self._segment(data["image"])
                record.seconds["network"] = time.perf_counter() - started
            self._apply(self.postprocessing, data, record)
        except CaseError as error:
            record.reason = str(error)
            self._keep(paths, data, record, expected=True)
        except Exception as error:  # whatever it is, it is logged with its traceback and reported with the case
            log_error(record.case, error)
            record.reason = unreadable(source) or f"{source}: {type(error).__name__}: {error}"
            full = isinstance(error, OSError) and error.errno in DISK_FULL
            self._keep(paths, data, record, expected=isinstance(error, READ_ERRORS) and not full)
        else:
            self._write(paths, data, record)
        return data

    def _apply(self, chain: Compose, data: dict[Any, Any], record: CaseRecord) -> None:
        """Apply a chain's transforms to `data` in place, one by one: so what was reached before an error is kept."""
        for transform in chain.flatten().transforms:
            started = time.perf_counter()
            result = transform(dict(data))
            data.clear()
            data.update(result)
            name = type(transform).__name__
            record.seconds[name] = record.seconds.get(name, 0.0) + time.perf_counter() - started

    def _segment(self, image: MetaTensor) -> MetaTensor:
        """Apply the network to an image (C, X, Y, Z); return its output as a MetaTensor that shares the meta data."""
        batch = torch.as_tensor(image).unsqueeze(0).to(self.state.device)
        with self.mode(self.network), torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            output = self.inferer(batch, self.network)
        return MetaTensor(output[0], meta=dict(image.meta))

    def _write(self, paths: dict[str, Any], data: dict[Any, Any], record: CaseRecord) -> None:
        """Write a case's results; where they cannot be written, the case has failed, whatever can be kept of it."""
        started = time.perf_counter()
        try:
            found = outcome_of(data)
            unchanged = found.status == KEPT and not found.changed_voxels
            record.outputs = self.writer.keep(paths, data) if unchanged else self.writer.write(paths, data)
        except Exception as error:  # as with the stages
            log_error(record.case, error)
            record.reason = f"{paths[self.cases.key]}: the results cannot be written: {error}"
            self._keep(paths, data, record, expected=False)
            return
        record.seconds["write"] = time.perf_counter() - started
        record.status, record.reason, record.structures = found.status, found.reason, found.structures
        record.volumes_ml, record.changed_voxels = found.volumes_ml, found.changed_voxels
        record.warnings += found.warnings

    def _keep(self, paths: dict[str, Any], data: dict[Any, Any], record: CaseRecord, expected: bool) -> None:
        """Pass the initial mask through, where there is one that can be read."""
        try:
            if self.cases.key != "pred" or not unreadable(paths["pred"]):
                record.outputs = self.writer.keep(paths, data)
        except Exception as error:  # the other cases are to go on
            log_error(record.case, error)
            record.reason += f"; and it cannot be written: {error}"
            record.outputs = {}
        record.status = KEPT if expected and record.outputs else FAILED


def log_error(case: str, error: Exception) -> None:
    """Log an error with its traceback; but of the disk, such as a full one, the case's own line says all."""
    if not isinstance(error, OSError):
        logger.error(shown(f"{case}: {type(error).__name__}"), exc_info=error)


def unreadable(path: str) -> str:
    """Return why a volume cannot be read, "" if it can, or if it is a folder of masks."""
    if Path(path).is_dir():
        return ""
    try:
        image = open_volume(path)
        read_values(image, path)
        if is_nrrd(path) and len(image.shape) == 4:
            return f"{path} has segments that overlap"
    except CaseError as error:
        return str(error)
    except Exception as error:  # what nibabel makes of a mad header, or too little memory
        return f"{path} cannot be read ({type(error).__name__}: {error}): copy or export it again"
    return ""
