"""Checks of single settings: a value has its type and lies in its range, or is refused in one plain line.

A check takes a value as YAML gives it and where it stands (`.../organ.yaml: augment: scale`), and returns the value in
its own type. Numbers written as `2e-4`, which YAML takes for text, are numbers.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any

Check = Callable[[Any, str], Any]
"""(value, where it stands) → the value in its own type; raises OrganError."""

NAME = re.compile(r"\w([\w -]{0,62}\w)?")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
PRIOR_SUFFIX = ".safetensors"

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 120, 120


class OrganError(ValueError):
    """An organ pack, or a preset of the refinement, is missing or does not hold what it must."""


def shown(value: object) -> str:
    """Return a value as it may stand in a message: short, on one line, as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "so long a number"


def key_text(key: object) -> str:
    """Return a key as it may stand in the path to a setting."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 64 else shown(key)


def refusal(where: str, what: str, value: object) -> OrganError:
    """Return the error that says what a setting must be, and what it is."""
    return OrganError(f"{where} must be {what}, not {shown(value)}")


def unknown(where: str, key: object, known: Sequence[str], what: str = "key") -> OrganError:
    """Return the error that names an unknown key and the nearest known one, or all there are."""
    near = get_close_matches(str(key)[:80].lower(), known, 1)
    remedy = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known)}"
    return OrganError(f"{where}: unknown {what} {shown(key)}: {remedy}")


def as_number(value: object) -> float | None:
    """Return a number, also one that is written as text; None where it is none or not finite."""
    try:
        if isinstance(value, str) and NUMBER.fullmatch(value):
            found = float(value)
        elif isinstance(value, Real) and not isinstance(value, bool):
            found = float(value)
        else:
            return None
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def number(least: float, most: float) -> Check:
    """Return the check of a number from `least` to `most`."""

    def check(value: Any, where: str) -> float:
        found = as_number(value)
        if found is None or not least <= found <= most:
            raise refusal(where, f"a number from {least:g} to {most:g}", value)
        return found

    return check


def whole(least: int, most: int) -> Check:
    """Return the check of a whole number from `least` to `most`."""

    def check(value: Any, where: str) -> int:
        found = as_number(value)
        if found is None or not found.is_integer() or not least <= found <= most:
            raise refusal(where, f"a whole number from {least} to {most}", value)
        return int(value) if isinstance(value, Integral) else int(found)

    return check


def flag(value: Any, where: str) -> bool:
    """Check a switch: text such as "false" would be taken for true."""
    if not isinstance(value, bool):
        raise refusal(where, "true or false, without quotes", value)
    return value


def text(value: Any, where: str) -> str:
    """Check a text; YAML takes `no`, `1` and `2020-01-01` for something else."""
    if not isinstance(value, str):
        raise refusal(where, "text, in quotes where it looks like something else", value)
    return value


def safe_name(value: Any, where: str) -> str:
    """Check a name: files are called by it, so it must not lead out of their folder."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise refusal(where, "a name of at most 64 letters, digits, '_', '-' and inner spaces, in quotes", value)
    return value


def as_name(value: str) -> str:
    """Return a text as a name that `safe_name` accepts: what it does not allow becomes `_`."""
    return re.sub(r"[^\w-]+", "_", value).strip(" -")[:64].rstrip(" -") or "_"


def prior_file(value: Any, where: str) -> Path:
    """Check a prior's file name, which is that of a file in the pack's folder, or in that of a pack beside it."""
    stem = value.removesuffix(PRIOR_SUFFIX) if isinstance(value, str) else ""
    if stem == value or not re.fullmatch(r"(\.\./\w[\w -]{0,63}/)?\w[\w. -]{0,99}", stem):
        file = f"the name of a file in the pack's own folder that ends in {PRIOR_SUFFIX}"
        raise refusal(where, f"{file}, or ../PACK/ before the name for one of another pack", value)
    return Path(value)


def one_of(choices: Sequence[str]) -> Check:
    """Return the check of one of several texts."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise refusal(where, f"one of {', '.join(choices)}", value)
        return value

    return check


def three(check_one: Check) -> Check:
    """Return the check of three values, one an axis."""

    def check(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise refusal(where, "three numbers, one an axis, such as [1, 1, 1]", value)
        return tuple(check_one(one, f"{where}: number {place}") for place, one in enumerate(value, 1))

    return check


def list_of(check_one: Check, least: int = 0) -> Check:
    """Return the check of a list of values that differ, as a tuple."""

    def check(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise refusal(where, f"a list of at least {least} entry, such as [a]" if least else "a list", value)
        found = tuple(check_one(one, f"{where}: entry {place}") for place, one in enumerate(value, 1))
        twice = [one for one in found if found.count(one) > 1] if len(set(found)) < len(found) else []
        if twice:
            raise OrganError(f"{where} names {shown(twice[0])} twice: remove one")
        return found

    return check


def mapping_of(check_key: Check, check_value: Check, least: int = 0) -> Check:
    """Return the check of a mapping of keys to values."""

    def check(value: Any, where: str) -> dict[Any, Any]:
        if not isinstance(value, dict) or len(value) < least:
            raise refusal(where, "a mapping, lines of 'key: value'", value)
        found = {
            check_key(key, f"{where}: the key"): check_value(one, f"{where}: {key_text(key)}")
            for key, one in value.items()
        }
        if len(found) < len(value):
            raise OrganError(f"{where} has a key twice: remove one")
        return found

    return check


def entries(known: Sequence[str], check_value: Check) -> Check:
    """Return the check of a mapping of some of the known keys to values."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refusal(where, "a mapping, lines of 'key: value'", value)
        for key in value:
            if key not in known:
                raise unknown(where, key, known)
        return {key: check_value(one, f"{where}: {key}") for key, one in value.items()}

    return check
