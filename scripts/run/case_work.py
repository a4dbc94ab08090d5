"""The work on one case: reading, network, refinement and writing; whatever goes wrong is caught, said and recorded."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import Compose
from monai.utils import set_determinism

from ..cases.digest import input_hash
from ..cases.errors import READ_ERRORS, CaseError
from ..cases.find import CASE, REASON, is_nrrd
from ..cases.given import GIVEN
from ..cases.read import check_header, header_warnings, open_volume, read_values
from ..cases.writer import CaseWriter
from ..report.outcome import outcome_of
from ..report.run_report import FAILED, KEPT, CaseRecord, peak_memory_mb, shown
from .memory import give_back

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass
class CaseWork:
    """All that the work on a case takes.

    A case whose data are no good keeps its initial mask ("kept") or, without one, is "failed"; a case stopped by an
    error of the program is "failed" too, with the traceback in the log. See `CaseRecord` for what is reported.

    Attributes:
        key: of the file that a case is made from, "pred" or "image".
        evidence: further keys that were asked for.
        device: where the network runs.
        network: the segmentation network; not called for a case with a `pred` after preprocessing.
        inferer: how it is applied.
        preprocessing: paths → `image` or `pred` tensors, channel first.
        postprocessing: `pred` of the network (or the mask read) → `pred`, `initial`, `pred_shapes`.
        writer: writes the results.
        amp: whether the network runs in mixed precision.
        seed: of every generator at the start of every case, so that a case's result depends on no other.
    """

    key: str
    evidence: Sequence[str]
    device: torch.device
    network: torch.nn.Module
    inferer: Callable[..., Any]
    preprocessing: Compose
    postprocessing: Compose
    writer: CaseWriter
    amp: bool = False
    seed: int = 0

    def __call__(self, paths: dict[str, Any], earlier: Sequence[str] = ()) -> tuple[CaseRecord, dict[Any, Any]]:
        """Do a case; only `KeyboardInterrupt` and its like escape.

        Args:
            paths: the case's dictionary of paths.
            earlier: names of the files that an earlier run's report lists for it.

        Returns:
            What happened, and the case's data as far as they came.
        """
        give_back()
        set_determinism(self.seed)
        record = self.begun(paths)
        data: dict[Any, Any] = {}
        record.reason = paths[REASON] or self.writer.refusal(paths[CASE])
        if not record.reason:
            record.input_hash = input_hash(record.inputs)
            record.warnings += [f"no {k} file fits this case's name" for k in self.evidence if k not in record.inputs]
            data = self._run(paths, record, earlier)
        record.peak_memory_mb = peak_memory_mb()
        return record, data

    def pass_through(self, paths: dict[str, Any], reason: str) -> CaseRecord:
        """Keep the initial mask of a case that could not be done to its end, where it has one."""
        record = self.begun(paths)
        record.reason = f"{paths[self.key]}: {reason}"
        self._keep(paths, {}, record, expected=False)
        record.peak_memory_mb = peak_memory_mb()
        return record

    @staticmethod
    def begun(paths: dict[str, Any]) -> CaseRecord:
        """Return a case's record before anything is done."""
        return CaseRecord(paths[CASE], {key: str(path) for key, path in paths.items() if key not in (CASE, REASON)})

    def _run(self, paths: dict[str, Any], record: CaseRecord, earlier: Sequence[str]) -> dict[Any, Any]:
        """Run the stages, write, and fill in the record; return the case's data as far as they came."""
        source = paths[self.key]
        data: dict[Any, Any] = {k: v for k, v in paths.items() if k != REASON}
        try:
            self.writer.clear(paths, earlier)
            record.warnings += [warning for path in record.inputs.values() for warning in header_warnings(path)]
            if self.key == "image":
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
        batch = torch.as_tensor(image).unsqueeze(0).to(self.device)
        with eval_mode(self.network), torch.autocast(self.device.type, enabled=self.amp):
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
            record.reason = f"{paths[self.key]}: the results cannot be written: {error}"
            self._keep(paths, data, record, expected=False)
            return
        record.seconds["write"] = time.perf_counter() - started
        record.status, record.reason, record.structures = found.status, found.reason, found.structures
        record.volumes_ml, record.changed_voxels = found.volumes_ml, found.changed_voxels
        record.warnings += found.warnings

    def _keep(self, paths: dict[str, Any], data: dict[Any, Any], record: CaseRecord, expected: bool) -> None:
        """Pass the initial mask through, where there is one that can be read."""
        try:
            if self.key != "pred" or not unreadable(paths["pred"]):
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
