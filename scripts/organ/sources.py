"""How other models call and number the labels of an organ pack: the section `sources` of its organ.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .checks import OrganError, mapping_of, text, unknown, whole
from .structure import MOST_LABEL, Structure

OWN_SOURCE = "own"  # the name of the source whose values are the pack's own
Meanings = dict[str, dict[int | str, int]]
"""source → name or value of theirs → label value of the pack."""


def plain(name: str) -> str:
    """Return a name in lower case with single underscores for spaces, dots and dashes."""
    return re.sub(r"[\s._-]+", "_", name.strip().lower())


def _theirs(value: Any, where: str) -> int | str:
    return text(value, where) if isinstance(value, str) else whole(0, MOST_LABEL)(value, where)


SOURCES = mapping_of(text, mapping_of(_theirs, text))


def resolved(
    items: Mapping[str, Mapping[int | str, Any]], labels: Mapping[int, str], structures: Iterable[Structure], where: str
) -> Meanings:
    """Return name → value or name of another model → label value.

    Args:
        items: source → theirs → name of a label or a structure.
        labels: label value → name.
        structures: of the pack; of one, its first label is meant.
        where: where it stands, for messages.

    Raises:
        OrganError: a source means what is neither a label nor a structure, or two mean different things by one name.
    """
    known = {s.name: s.labels[0] for s in structures} | {name: value for value, name in labels.items()}
    names: dict[str, str] = {}
    for source, meanings in items.items():
        if source == OWN_SOURCE:
            raise OrganError(f"{where}: '{OWN_SOURCE}' means the pack's own values: give the source another name")
        for theirs, ours in meanings.items():
            if ours not in known:
                raise unknown(f"{where}: {source}: {theirs}", ours, list(known), "label")
            if isinstance(theirs, str) and names.setdefault(theirs, ours) != ours:
                raise OrganError(f"{where} mean both '{names[theirs]}' and '{ours}' by '{theirs}': choose one")
    return {source: {theirs: known[ours] for theirs, ours in meanings.items()} for source, meanings in items.items()}


def sides_of(
    items: Mapping[str, Mapping[int | str, Any]], structures: Iterable[Structure]
) -> dict[str, dict[int | str, str]]:
    """Return name → value or name of another model → "left" or "right", of what means a side's structure.

    Args:
        items: source → theirs → name of a label or a structure.
        structures: of the pack.
    """
    sides = {s.name: s.side for s in structures if s.side}
    return {
        source: {theirs: sides[ours] for theirs, ours in meanings.items() if ours in sides}
        for source, meanings in items.items()
    }
