"""Errors that a user can mend, said in one plain line rather than a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..cases.errors import CaseError

PLAIN = (
    ValueError,
    FloatingPointError,
    CaseError,
    OSError,
)  # what the bundle raises where input or options are at fault

WRAPPED = ("Failed to evaluate", "Failed to instantiate")  # how errors begin that MONAI's config parser makes of others

Result = TypeVar("Result")


def plain_text(error: BaseException) -> str:
    """Return what is printed of an error, such as "Error: masks/ does not exist"."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"Error: {error.filename}: {error.strerror}"
    return f"Error: {error}"


def plain_text_of(error: BaseException) -> str:
    """Return what is printed of an error, "" where it is none of `PLAIN`; MONAI's config parser wraps what it meets."""
    while isinstance(error, RuntimeError) and str(error).startswith(WRAPPED) and error.__cause__ is not None:
        error = error.__cause__
    return plain_text(error) if isinstance(error, PLAIN) else ""


def plainly(act: Callable[..., Result], *arguments: Any) -> Result:
    """Do something for a job of `configs/`; stop the run with a plain message where that fails.

    Raises:
        SystemExit: with the message; its cause is the error, one of `PLAIN`.
    """
    try:
        return act(*arguments)
    except PLAIN as error:
        raise SystemExit(plain_text(error)) from error
