"""The command line: `python -m scripts COMMAND`; the jobs that need no configuration of MONAI's."""

from __future__ import annotations

import fire

from .benchmark import benchmark
from .data.job import data
from .demo import demo
from .evaluate import evaluate
from .evidence.job import evidence, joint
from .report.job import report
from .simulate import simulate
from .template import template
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


def main() -> None:
    """Run the command that the command line names; `--help` lists all."""
    fire.Fire(COMMANDS, name="scripts")
