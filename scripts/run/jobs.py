"""Run the bundle's jobs from Python."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]


def run_job(job: str, **options: Any) -> None:
    """Run a job of `configs/` as `python -m monai.bundle run` does; with its logging where there is none yet.

    Raises:
        SystemExit: a case failed.
    """
    values = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    workflow = ConfigWorkflow(
        str(ROOT / "configs" / f"{job}.yaml"),
        logging_file=False if logging.getLogger().handlers else None,
        workflow_type="train" if job.startswith("train") else "infer",
        bundle_root=str(ROOT),
        **values,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
