"""The command line: `python -m scripts COMMAND`; the jobs that need no configuration of MONAI's.

Where options or data are at fault a command ends with one plain line and the exit code 1; `--traceback` shows where.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

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

COMMANDS = {
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
        fire.Fire(COMMANDS, command=[one for one in given if one != TRACEBACK], name="scripts")
    except PLAIN as error:
        if TRACEBACK in given:
            raise
        raise SystemExit(plain_text(error)) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
