"""The command line: `python -m scripts COMMAND`; the jobs that need no configuration of MONAI's."""

from __future__ import annotations

import fire

from .data.job import data
from .demo import demo
from .evaluation.benchmark import benchmark
from .evaluation.evaluate import evaluate
from .report.job import report
from .report.template import template
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


def main() -> None:
    """Run the command that the command line names; `--help` lists all."""
    fire.Fire(COMMANDS, name="scripts")
