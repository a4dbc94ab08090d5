"""The report of a run, `report.json`.

While the run goes on, `report.jsonl` beside it takes a line a case, so that a run cut short leaves a true report
(`read_report`), and a long one does not write its whole report again after every case.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..cases.files import shown, write_json
from ..cases.part import named
from .sizes import unusual_sizes
from .version import bundle_version

PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "scikit-image", "trimesh", "libigl", "pycpd", "safetensors")
LINES_ENDING = ".jsonl"
REPORT, LINES = "report.json", f"report{LINES_ENDING}"
ORGAN, INPUT = "organ", "dataset_dir"  # settings that tell one run from another
REWRITE_SECONDS, REWRITE_SHARE = 5.0, 0.05  # between two whole reports, and at most this share of the time for them
REFINED, UNCHANGED, SEGMENTED, KEPT, FAILED = "refined", "unchanged", "segmented", "kept", "failed"
STATUSES = (REFINED, UNCHANGED, SEGMENTED, KEPT, FAILED)


@dataclass
class CaseRecord:
    """What happened to one case.

    Attributes:
        case: its name.
        inputs: key → path of the files it was made from.
        status: "refined"; "unchanged" (the mask was looked at, and no voxel changed); "segmented" (the U-Net alone was
            asked for); "kept" (the initial mask was passed through, `reason` says why); "failed" (`reason` says why).
        reason: "" or a message that names the file and the remedy.
        warnings: what a user should know though the case went through.
        left_alone: what the mask holds beside the organ's labels; it was not changed.
        outputs: what → path of the files written.
        input_hash: of the content of `inputs`, see `digest.input_hash`; "" where it is not known.
        seconds: stage → wall seconds.
        peak_memory_mb: the process's highest resident memory so far.
        volumes_ml: label → [initial, refined] volume.
        changed_voxels: how many voxels have another value than before.
        structures: one dictionary a structure: name, status ("refined", "unchanged" or "kept"), failure, seconds,
            quality.
    """

    case: str
    inputs: dict[str, str] = field(default_factory=dict)
    status: str = FAILED
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    input_hash: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    volumes_ml: dict[str, list[float]] = field(default_factory=dict)
    changed_voxels: int | None = None
    structures: list[dict[str, Any]] = field(default_factory=list)


class RunReport:
    """Collects the records of a run and writes `report.json`.

    Args:
        output_dir: where the report goes.
        job: the config's name ("inference", "refine").
        settings: the run's tunables, as plain values.
        part: of the cases, such as "2/8", whose report goes beside those of the others; "" for the whole.
    """

    def __init__(
        self, output_dir: str | Path, job: str, settings: dict[str, Any] | None = None, part: str = ""
    ) -> None:
        self.path = Path(str(output_dir)) / named(REPORT, part)
        self.lines = self.path.with_name(named(LINES, part))
        self.part = part
        self.job = job
        self.settings = settings or {}
        self.by_case: dict[str, CaseRecord] = {}
        self.head: dict[str, Any] = {}
        self.started = 0.0
        self.rewrite_at = 0.0
        self.stream: IO[str] | None = None

    @property
    def records(self) -> list[CaseRecord]:
        """The records, by the cases' names."""
        return [self.by_case[case] for case in sorted(self.by_case)]

    def start(
        self,
        device: str,
        settings_hash: str = "",
        done: Sequence[CaseRecord] = (),
        priors: Mapping[str, str] | None = None,
    ) -> None:
        """Note when, where and with what a run begins; of an earlier run nothing stays but what was done before.

        Args:
            device: where it runs.
            settings_hash: of all that results depend on beside a case's own files.
            done: records of an earlier run with the same hash.
            priors: structure → hash of its prior.
        """
        self.by_case = {record.case: record for record in done}
        self.started = time.perf_counter()
        self.head = {
            "job": self.job,
            **({"part": self.part} if self.part else {}),
            "bundle": bundle_version(),
            "command": shlex.join(sys.orig_argv),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "device": device,
            "settings_hash": settings_hash,
            "priors": dict(priors or {}),
            "settings": self.settings,
            "platform": {"system": platform.platform(), "python": platform.python_version()},
            "versions": package_versions(),
        }
        self.lines.unlink(missing_ok=True)
        self.write()
        self.stream = open(self.lines, "x", encoding="utf-8")
        self.stream.writelines(map(_line, done))

    def add(self, record: CaseRecord) -> None:
        """Add a case, in place of what was done before of it: its line at once, the whole report now and then.

        Raises:
            OSError: the report cannot be written; the record is kept for later.
        """
        self.by_case[record.case] = record
        if self.stream is not None:
            self.stream.write(_line(record))
            self.stream.flush()
            os.fsync(self.stream.fileno())
        if time.perf_counter() >= self.rewrite_at:
            self.write()

    def finish(self) -> None:
        """Write the whole report; its lines are not needed any more.

        Raises:
            OSError: it cannot be written.
        """
        if self.stream is not None:
            with suppress(OSError):  # a full disk: what counts is the whole report
                self.stream.close()
            self.stream = None
        self.write()
        self.lines.unlink(missing_ok=True)

    def earlier(self) -> list[dict[str, Any]]:
        """Return the reports of earlier runs in the folder: the whole's, then that of the same part."""
        found: list[dict[str, Any]] = []
        for name in dict.fromkeys((REPORT, self.path.name)):
            with suppress(OSError, ValueError):
                found.append(read_report(self.path.parent, name))
        return found

    def done_before(self, settings_hash: str) -> dict[str, CaseRecord]:
        """Return case → record of an earlier run in the folder with the same hash; {} where there was none."""
        found: dict[str, CaseRecord] = {}
        for report in self.earlier():
            with suppress(KeyError, TypeError):
                if report["settings_hash"] == settings_hash:
                    found |= {case["case"]: CaseRecord(**case) for case in report["cases"]}
        return found

    def files_before(self) -> dict[str, list[str]]:
        """Return case → names of the files that the reports of earlier runs list for it."""
        found: dict[str, list[str]] = {}
        for report in self.earlier():
            with suppress(KeyError, TypeError, AttributeError):
                found |= {c["case"]: [Path(file).name for file in c["outputs"].values()] for c in report["cases"]}
        return found

    def other_run(self) -> str:
        """Say which other job's results the folder holds, which this one would mix with its own; "" if none."""
        return next((said for report in self.earlier() if (said := self._other(report))), "")

    def _other(self, report: Mapping[str, Any]) -> str:
        """Say of which job a report is, if it is another than this one and has written something; "" if not."""
        try:
            job, settings = str(report["job"]), dict(report["settings"])
            written = any(case["outputs"] for case in report["cases"])
        except (ValueError, KeyError, TypeError):
            return ""
        here = [str(self.settings.get(key, "")) for key in (ORGAN, INPUT)]
        there = [str(settings.get(key, "")) for key in (ORGAN, INPUT)]
        same = job == self.job and all(Path(a).resolve() == Path(b).resolve() for a, b in zip(here, there, strict=True))
        return "" if same or not written else f"{job}, organ {there[0]}, from {there[1]}"

    def count(self, status: str) -> int:
        """Return how many cases have the status."""
        return sum(record.status == status for record in self.records)

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report as plain JSON values; numbers that are not finite are null."""
        cases = [asdict(record) for record in self.records]
        times = {"seconds": time.perf_counter() - self.started, "peak_memory_mb": peak_memory_mb()}
        return plain(self.head | times | {"summary": summary_of(cases), "cases": cases})

    def write(self) -> None:
        """Write the report, whole or not at all."""
        began = time.perf_counter()
        write_json(self.path, self.as_dict())
        ended = time.perf_counter()
        self.rewrite_at = ended + max(REWRITE_SECONDS, (ended - began) / REWRITE_SHARE)


def read_report(folder: str | Path, name: str = REPORT) -> dict[str, Any]:
    """Return the report of a run's folder; of a run that goes on, or was cut short, with every case it has finished.

    Args:
        folder: of the run.
        name: of the report, where it is that of a part.

    Raises:
        OSError: there is none.
        ValueError: it is no report.
    """
    report = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
    if not isinstance(report, dict) or not isinstance(report.get("cases"), list):
        raise ValueError("it lists no cases")
    lines = (Path(folder) / name).with_suffix(LINES_ENDING)
    if lines.is_file():
        *whole, _ = lines.read_text(encoding="utf-8").split("\n")  # what follows the last one is cut off
        if len(whole) >= len(report["cases"]):
            report["cases"] = list({case["case"]: case for case in map(json.loads, whole)}.values())
            report["summary"] = summary_of(report["cases"])
    return report if sys.getfilesystemencoding() == "utf-8" else with_texts(report, as_named_here)


def _line(record: CaseRecord) -> str:
    return json.dumps(plain(asdict(record)), allow_nan=False) + "\n"


def summary_of(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many cases there are, how many of each status, and under "structures" the same of these.

    `unusual_sizes` are of the structures whose masks are larger or smaller than usual, see `sizes`.
    """
    states = [case["status"] for case in cases]
    parts = [part.get("status") for case in cases for part in case["structures"]]
    structures = {status: parts.count(status) for status in (REFINED, UNCHANGED, KEPT)}
    counts = {"cases": len(states)} | {s: states.count(s) for s in STATUSES} | {"structures": structures}
    return counts | {"unusual_sizes": unusual_sizes(cases)}


def plain(value: Any) -> Any:
    """Return a value as plain JSON: arrays as lists, paths as strings, rounded floats, None for NaN and infinity."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None else shown(str(value))


def as_named_here(text: str) -> str:
    """Return a text of a report as this process names files, which depends on its locale: what `shown` was given."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain JSON values with all of their texts changed."""
    if isinstance(value, dict):
        return {change(k): with_texts(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_texts(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def package_versions() -> dict[str, str]:
    """Return the versions of the packages the results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory_mb() -> float:
    """Return the highest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
