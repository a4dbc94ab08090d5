"""Which cases of a run an earlier one has done from the same files in the same way, so that they need not be again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..cases.digest import hash_of, input_hash
from ..cases.find import CASE
from ..organ.pack import BLIND_FILE, EVIDENCE_FILE, JOINT_FILE, OrganPack
from ..organ.places import CALIBRATION_FILES, QUALITY_FILES
from ..report.run_report import FAILED, CaseRecord, RunReport, package_versions, shown
from ..report.version import bundle_version
from ..unet.network import network_file
from .case_work import CaseWork

ROOT = Path(__file__).resolve().parents[2]
CODE = ("scripts/**/*.py", "configs/*.yaml")
PLACES = ("organ", "dataset_dir", "output_dir", "image_dir", "prob_dir", "grid")  # their files' content counts instead


def settings_hash(work: CaseWork, settings: Mapping[str, Any], pack: OrganPack | None) -> str:
    """Return a hash of all that a case's results depend on beside its own files.

    That is: the settings, the steps and what they were told in plain values, the device, the organ pack's files, the
    predictors of quality, the versions of the bundle and of the packages, and the bundle's own code and configs.

    Args:
        work: what is done.
        settings: the run's tunables.
        pack: the organ pack, or that of several.
    """
    steps = [*work.preprocessing.transforms, work.inferer, *work.postprocessing.transforms, work.writer]
    own = {
        **{name: value for name, value in settings.items() if name not in PLACES},
        "key": work.key,
        "device": work.device.type,
        "amp": work.amp,
        "seed": work.seed,
        "steps": [_told(step) for step in steps],
        "code": code_hash(),
    }
    files: list[Path] = []
    for one in () if pack is None else pack.packs:
        own_files = [one.folder / name for name in (JOINT_FILE, EVIDENCE_FILE, BLIND_FILE, *CALIBRATION_FILES.values())]
        networks = [Path(network_file(one, name)) for name in dict.fromkeys(("", settings.get("network_name") or ""))]
        named = [*own_files, *networks, *QUALITY_FILES.values()]
        files += [file for file in (one.file, *(s.prior for s in one.structures), *named) if file.is_file()]
    return hash_of([json.dumps(own, sort_keys=True, default=str)], files)


def prior_hashes(pack: OrganPack | None) -> dict[str, str]:
    """Return structure → hash of its prior, of all that have one, and of both sides of a paired structure."""
    shapes = () if pack is None else [shape for one in pack.structures for shape in (one, *one.pair)]
    return {shape.name: hash_of([], [shape.prior]) for shape in shapes if shape.prior.is_file()}


def code_hash() -> str:
    """Return a hash of the bundle's code and configs, and of the versions of the bundle and the packages."""
    files = [file for pattern in CODE for file in sorted(ROOT.glob(pattern))]
    return hash_of([bundle_version(), json.dumps(package_versions())], files)


def _told(step: object) -> list[Any]:
    """Return a step's name, and the plain values among its attributes."""
    return [
        type(step).__name__,
        {name: value for name, value in getattr(step, "__dict__", {}).items() if _is_plain(value)},
    ]


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))


def done_before(
    cases: Iterable[Mapping[str, Any]], work: CaseWork, report: RunReport, settings_hash: str
) -> list[CaseRecord]:
    """Return the records of the cases that were done before and whose files are still there, as they lie now.

    A case that failed is never done.

    Args:
        cases: dictionaries of paths.
        work: what is done.
        report: of the run, with that of an earlier one in its folder.
        settings_hash: of this run.
    """
    known = report.done_before(settings_hash)
    found = []
    for paths in tqdm(cases if known else (), desc="compare", unit="case", disable=None, leave=False):
        record = known.get(shown(paths[CASE]))
        if record is None or record.status == FAILED:
            continue
        record.inputs = work.begun(dict(paths)).inputs
        record.outputs = work.writer.still_there(record.case, record.outputs)
        if record.outputs and record.input_hash and record.input_hash == input_hash(record.inputs):
            found.append(record)
    return found
