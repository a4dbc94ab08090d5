"""The command line: `shape-refine COMMAND`, or `python -m scripts COMMAND`.

Options and help are read from configs and sources, without importing them, so that help and refusals come at once. The
module of a command is imported, by its name, when the command runs. Where options or data are at fault a command ends
with one plain line and the exit code 1; `--traceback` shows where.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..run.arguments import UsageError, nearest, read_arguments
from ..run.config_options import check_values, description_of, options_of
from ..run.streams import take_any_text
from .help import COMMON, help_of_all, help_of_command
from .signature import Signature, signature_of

PACKAGE = __package__.rpartition(".")[0]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
JOBS: dict[str, tuple[str, ...]] = {  # command → config, and what lies over it
    "refine": ("refine",),
    "segment": ("inference",),
    "cohort": ("refine", "cohort"),
    "train-prior": ("train_prior",),
    "train": ("train",),
}
FUNCTIONS: dict[str, str] = {  # command → module:function
    "evaluate": "evaluation.evaluate:evaluate",
    "ablate": "validation.ablation:ablate",
    "benchmark": "evaluation.benchmark:benchmark",
    "calibrate": "validation.calibrate:calibrate",
    "data": "data.job:data",
    "demo": "demo:demo",
    "depth": "validation.depth:depth",
    "dicom": "dicom.job:dicom",
    "evidence": "training.evidence.job:evidence",
    "joint": "training.prior.joint:joint",
    "limits": "validation.limits:limits",
    "merge": "report.merge:merge",
    "meshes": "report.mesh_check:meshes",
    "out_of_fold": "peers.out_of_fold:out_of_fold",
    "quality": "training.quality.job:quality",
    "rank": "report.rank:rank",
    "report": "report.job:report",
    "reproduce": "peers.job:reproduce",
    "shape_table": "report.shape_table:shape_table",
    "simulate": "simulation.simulate:simulate",
    "speed": "speed.job:speed",
    "template": "report.template:template",
    "slices": "validation.slices:slices",
    "validate": "validation.job:validate",
    "witnesses": "validation.witnesses:witnesses",
}
RUN_JOB, PLAIN_TEXT, VERSION = "run.jobs:run_job", "run.errors:plain_text_of", "report.version:bundle_version"
INSTALL = "run pip install -r {} in the bundle's folder"
NEEDED, OPTIONAL = "requirements.txt", {"highdicom": "requirements-dicom.txt"}
INTERRUPTED = 130  # exit code of what Ctrl+C ends, as shells have it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the command line names; `--help` lists all.

    Args:
        arguments: the command and its options; None for those of the process.

    Raises:
        SystemExit: the command failed.
    """
    take_any_text()
    given = list(sys.argv[1:] if arguments is None else arguments)
    given = ["--help" if one == "-h" else one for one in given]
    common = {name for name in COMMON if f"--{name}" in given}
    given = [one for one in given if not (one.startswith("--") and one[2:] in common)]
    try:
        _run(given, common)
        sys.stdout.flush()
    except UsageError as error:
        raise SystemExit(f"Error: {error}") from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # who reads, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        if "traceback" in common or str(error.name).startswith(PACKAGE):
            raise
        remedy = INSTALL.format(OPTIONAL.get(str(error.name), NEEDED))
        raise SystemExit(f"Error: the package {error.name} is missing: {remedy}") from error
    except Exception as error:
        text = "" if "traceback" in common else load(PLAIN_TEXT)(error)
        if not text:
            raise
        raise SystemExit(text) from error


def _run(given: Sequence[str], common: set[str]) -> None:
    """Answer what was asked for, or run the command."""
    if "version" in common:
        print(load(VERSION)())
        return
    program = "shape-refine" if Path(sys.argv[0]).name.startswith("shape-refine") else "python -m scripts"
    if not given:
        print(help_of_all(program, {name: _first_line(describe(name)) for name in (*JOBS, *FUNCTIONS)}))
        return
    name, *rest = given
    if name not in JOBS and name not in FUNCTIONS:
        near = nearest(name, [*JOBS, *FUNCTIONS, *(f"--{one}" for one in COMMON)])
        remedy = f"did you mean {near}?" if near else f"{program} --help lists all"
        raise UsageError(f"there is no command {name}: {remedy}")
    known = describe(name)
    if "help" in common:
        print(help_of_command(program, name, known.description, known.options, known.others))
        return
    values = read_arguments(name, rest, known.options, known.others)
    if name in JOBS:
        check_values(values)
        values["job"] = JOBS[name]
    if "verbose" not in common:
        warnings.simplefilter("ignore")  # before the import: some come with it
    command = load(RUN_JOB if name in JOBS else FUNCTIONS[name])
    _set_logging(common)
    result = command(**values)
    if result is not None:
        print(result)


def describe(name: str) -> Signature:
    """Return what a command takes and what it does."""
    if name in FUNCTIONS:
        return signature_of(FUNCTIONS[name])
    files = [CONFIGS / f"{config}.yaml" for config in JOBS[name]]
    options = {key: option for file in files for key, option in options_of(file).items() if key != "bundle_root"}
    return Signature(options, description_of(files[-1]))


def load(address: str) -> Callable[..., Any]:
    """Import a function of the package: `module:function`."""
    module, _, function = address.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"{PACKAGE}.{module}"), function)
    return found


def _first_line(known: Signature) -> str:
    return known.description.partition("\n")[0].rstrip(":.")


def _set_logging(common: set[str]) -> None:
    """Write messages as configs/logging.conf says; fewer with --quiet, all and other packages' with --verbose."""
    logging.config.fileConfig(CONFIGS / "logging.conf", disable_existing_loggers=False)
    if "verbose" in common:
        for name in logging.root.manager.loggerDict:
            logging.getLogger(name).setLevel(logging.NOTSET)
    if "quiet" in common:
        for handler in logging.getLogger().handlers:  # that of all loggers of logging.conf
            handler.setLevel(logging.WARNING)
