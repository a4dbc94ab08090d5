"""Options of a job, checked before anything is made of them: each has its type and lies in its range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checks import Check, OrganError, flag, shown


def or_none(check: Check) -> Check:
    """Return the check of a value that may be left out."""
    return lambda value, where: None if value is None else check(value, where)


def switch(value: Any, where: str) -> bool:
    """Check a switch, also one that comes as text."""
    return flag({"true": True, "false": False}.get(str(value).lower(), value), where)


def require(options: Mapping[str, Check], given: Mapping[str, Any]) -> None:
    """Refuse options that are of another kind or out of their range.

    Args:
        options: name → check.
        given: name → value, of some of them.

    Raises:
        SystemExit: one is; with a plain message.
    """
    for name, value in given.items():
        try:
            meant = options[name](value, f"--{name}")
        except OrganError as error:
            raise SystemExit(f"Error: {error}") from None
        is_text = isinstance(value, str) and not isinstance(meant, (str, bool))
        if is_text or (isinstance(value, float) and isinstance(meant, int)):
            raise SystemExit(f"Error: --{name} must be written as {meant}, not {shown(value)}")
