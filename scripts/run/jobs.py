"""Run the bundle's jobs from Python."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]


def run_job(job: str | Sequence[str], **options: Any) -> None:
    """Run a job of `configs/` as `python -m monai.bundle run` does; with its logging where there is none yet.

    Args:
        job: name of its config, or names of several, of which each lies over those before it.
        options: of the job.

    Raises:
        SystemExit: a case failed.
    """
    configs = [job] if isinstance(job, str) else job
    values = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    workflow = ConfigWorkflow(
        [str(ROOT / "configs" / f"{name}.yaml") for name in configs],
        logging_file=False if logging.getLogger().handlers else None,
        workflow_type="train" if configs[0].startswith("train") else "infer",
        bundle_root=str(ROOT),
        **values,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
