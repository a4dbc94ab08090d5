"""Errors that a user can mend, said in one plain line rather than a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..cases.io import CaseError

PLAIN = (ValueError, CaseError, OSError)  # what the bundle raises where its input or its options are at fault

Result = TypeVar("Result")


def plain_text(error: BaseException) -> str:
    """Return what is printed of an error, such as "Error: masks/ does not exist"."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"Error: {error.filename}: {error.strerror}"
    return f"Error: {error}"


def plainly(act: Callable[..., Result], *arguments: Any) -> Result:
    """Do something for a job of `configs/`; stop the run with a plain message where that fails.

    Raises:
        SystemExit: with the message; its cause is the error, one of `PLAIN`.
    """
    try:
        return act(*arguments)
    except PLAIN as error:
        raise SystemExit(plain_text(error)) from error
