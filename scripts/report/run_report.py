"""The report of a run: `report.json`, rewritten whole after every case, so that a run cut short leaves a true one."""

from __future__ import annotations

import json
import math
import platform
import resource
import shlex
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.files import write_json

PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "scikit-image", "trimesh", "libigl", "pycpd", "safetensors")
METADATA = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"
REFINED, SEGMENTED, KEPT, FAILED = "refined", "segmented", "kept", "failed"


@dataclass
class CaseRecord:
    """What happened to one case.

    Attributes:
        case: its name.
        inputs: key → path of the files it was made from.
        status: "refined"; "segmented" (the U-Net alone was asked for); "kept" (the initial mask was passed through,
            `reason` says why); "failed" (`reason` says why).
        reason: "" or a message that names the file and the remedy.
        warnings: what a user should know though the case went through.
        left_alone: what the mask holds beside the organ's labels; it was not changed.
        outputs: what → path of the files written.
        seconds: stage → wall seconds.
        peak_memory_mb: the process's highest resident memory so far.
        volumes_ml: label → [initial, refined] volume.
        changed_voxels: how many voxels have another value than before.
        structures: one dictionary a structure: name, failure, seconds, quality.
    """

    case: str
    inputs: dict[str, str] = field(default_factory=dict)
    status: str = FAILED
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
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
    """

    def __init__(self, output_dir: str | Path, job: str, settings: dict[str, Any] | None = None) -> None:
        self.path = Path(output_dir) / "report.json"
        self.job = job
        self.settings = settings or {}
        self.records: list[CaseRecord] = []
        self.head: dict[str, Any] = {}
        self.started = 0.0

    def start(self, device: str) -> None:
        """Forget the records of an earlier run and note when, where and with what this one began."""
        self.records = []
        self.started = time.perf_counter()
        self.head = {
            "job": self.job,
            "bundle": bundle_version(),
            "command": shlex.join(sys.orig_argv),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "device": device,
            "settings": self.settings,
            "platform": {"system": platform.platform(), "python": platform.python_version()},
            "versions": package_versions(),
        }

    def add(self, record: CaseRecord) -> None:
        """Add a case and rewrite the report."""
        self.records.append(record)
        self.write()

    def count(self, status: str) -> int:
        """Return how many cases have the status."""
        return sum(record.status == status for record in self.records)

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report as plain JSON values; numbers that are not finite are null."""
        summary = {"cases": len(self.records)} | {s: self.count(s) for s in (REFINED, SEGMENTED, KEPT, FAILED)}
        times = {"seconds": time.perf_counter() - self.started, "peak_memory_mb": peak_memory_mb()}
        return plain(self.head | times | {"summary": summary, "cases": [asdict(record) for record in self.records]})

    def write(self) -> None:
        """Write the report, whole or not at all."""
        write_json(self.path, self.as_dict())


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
    return value if value is None else str(value)


def bundle_version() -> str:
    """Return the bundle's version from its metadata, "" where there is no metadata."""
    return str(json.loads(METADATA.read_text())["version"]) if METADATA.is_file() else ""


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
