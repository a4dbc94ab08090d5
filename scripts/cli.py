"""The command line: `python -m scripts COMMAND`; the jobs that need no configuration of MONAI's.

Where options or data are at fault a command ends with one plain line and the exit code 1; `--traceback` shows where.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import fire

from .data.job import data
from .demo import demo
from .evaluation.benchmark import benchmark
from .evaluation.evaluate import evaluate
from .report.job import report
from .report.template import template
from .run.errors import PLAIN, plain_text
from .simulation.simulate import simulate
from .training.evidence.job import evidence
from .training.prior.joint import joint
from .validation.job import validate
from .validation.limits import limits

COMMANDS: dict[str, Callable[..., Any]] = {
    "benchmark": benchmark,
    "data": data,
    "demo": demo,
    "evaluate": evaluate,
    "evidence": evidence,
    "joint": joint,
    "limits": limits,
    "report": report,
    "simulate": simulate,
    "template": template,
    "validate": validate,
}


TRACEBACK = "--traceback"
INTERRUPTED = 130  # exit code of what Ctrl+C ends, as shells have it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the command line names; `--help` lists all.

    Args:
        arguments: the command and its options; None for those of the process.

    Raises:
        SystemExit: the command failed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = [one for one in given if one != TRACEBACK]
        check_options(command)
        fire.Fire(COMMANDS, command=command, name="scripts")
    except PLAIN as error:
        if TRACEBACK in given:
            raise
        raise SystemExit(plain_text(error)) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def check_options(command: Sequence[str]) -> None:
    """Refuse options that a command does not have: fire would run it first and complain afterwards.

    Args:
        command: its name, then its options; fire's own follow a `--`.

    Raises:
        ValueError: there is no such option.
    """
    if not command or command[0] not in COMMANDS:
        return
    known = inspect.signature(COMMANDS[command[0]]).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for one in command[1:]:
        if one == "--":
            return
        name = one[2:].partition("=")[0].replace("-", "_")
        if one.startswith("--") and not {name, name.removeprefix("no")} & {*known, "help"}:
            raise ValueError(f"{command[0]} has no option --{name}; it has {', '.join(f'--{own}' for own in known)}")
