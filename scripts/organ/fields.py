"""Dataclasses that are read from YAML: each field says how its value is checked, and what is no field is refused."""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

from .checks import Check, OrganError, refusal, unknown

CHECK = "check"
T = TypeVar("T")


def setting(check: Check, **default: Any) -> Any:
    """Return a dataclass's field that YAML sets, checked by `check`; `default` as for `dataclasses.field`."""
    return field(metadata={CHECK: check}, **default)


def settings_of(kind: type) -> dict[str, Field[Any]]:
    """Return key → field of a dataclass's settings."""
    return {one.name: one for one in fields(kind) if CHECK in one.metadata}


def checked(kind: type, values: object, where: str) -> dict[str, Any]:
    """Return the settings of a dataclass that a mapping holds, which need not be all of them.

    Args:
        kind: a dataclass with fields made by `setting`.
        values: what stands in the YAML file.
        where: where it stands, for messages.

    Raises:
        OrganError: it is no mapping, holds an unknown key, or a value that its check refuses.
    """
    known = settings_of(kind)
    if not isinstance(values, dict):
        raise refusal(where, "a mapping, lines of 'key: value'", values)
    for key in values:
        if key not in known:
            raise unknown(where, key, list(known))
    return {key: known[key].metadata[CHECK](value, f"{where}: {key}") for key, value in values.items()}


def read(kind: type[T], values: object, where: str, **given: Any) -> T:
    """Return a dataclass whose settings a mapping holds; `given` are its other fields.

    Raises:
        OrganError: see `checked`; or a setting without a default is missing.
    """
    found = checked(kind, values, where)
    for key, one in settings_of(kind).items():
        if key not in found and one.default is MISSING and one.default_factory is MISSING:
            raise OrganError(f"{where} lacks the key '{key}': add it")
    return kind(**found, **given)


def section(kind: type) -> Check:
    """Return the check of a mapping that is read as a dataclass."""

    def check(value: Any, where: str) -> Any:
        return read(kind, value, where)

    return check
