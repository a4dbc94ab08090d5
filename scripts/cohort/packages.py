"""Whether the packages of a cohort are there; it imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = ("dask", "distributed", "dask_jobqueue")


def require_packages() -> None:
    """Stop the run where Dask is not installed.

    Raises:
        SystemExit: it is not; the message says what to install.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"Error: the package {missing[0]} is missing: run pip install -r requirements-cohort.txt in the bundle's "
            "folder"
        )
