"""Which organ packs a run takes: those that are asked for, or those that know what the masks are called."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..organ.pack import OrganPack
from ..organ.several import AUTO, asked_packs, names_asked, union
from .errors import CaseError
from .find import NAMED_AT_MOST
from .sources import LabelSource

logger = logging.getLogger(__name__)


def packs_for(organ: object, dataset_dir: str | Path, source: str = "") -> list[OrganPack]:
    """Return the organ packs of a run, see `asked_packs`; of `auto`, those that fit the masks.

    Args:
        organ: what is asked for.
        dataset_dir: where the masks are.
        source: whose labels they have, see `LabelSource`.

    Raises:
        OrganError: a pack is missing or cannot be read, or none has such a source.
        ValueError: no pack fits, or there is no mask.
    """
    packs = asked_packs(organ)
    return _fitting(packs, Path(dataset_dir), source) if names_asked(organ) == [AUTO] and len(packs) > 1 else packs


def _fitting(packs: Sequence[OrganPack], dataset_dir: Path, source: str) -> list[OrganPack]:
    """Return the packs that know a name of what the masks hold; all that know the source's values, if it has such."""
    pack = union(packs)
    labels = LabelSource.of(pack, source)
    values = {label for key, label in pack.sources.get(source, {}).items() if isinstance(key, int)}
    found = [] if values else _names(labels, dataset_dir)
    meant = {name: label for name in found if (label := labels.label_of(name)) is not None}
    known = values or set(meant.values())
    fitting = [own for own, member in zip(packs, pack.members, strict=True) if known & set(member.labels.values())]
    others = [name for name in found if name not in meant]
    if not fitting:
        raise ValueError(
            f"{dataset_dir}: no organ pack knows what is there by its names ({_listed(others)}): choose the --organ, "
            "name them under `sources` in its organ.yaml, or say with --source whose label values these are"
        )
    if others:
        logger.info(f"no organ pack knows {_listed(others)}: left alone")
    return fitting


def _names(labels: LabelSource, dataset_dir: Path) -> list[str]:
    """Return the names of all that the cases of a folder hold, each once; cases that cannot be read have none."""
    names: dict[str, None] = {}
    for case in labels.find(dataset_dir):
        with suppress(CaseError, OSError):
            names |= dict.fromkeys(labels.names(case))
    return list(names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return f"{', '.join(names[:NAMED_AT_MOST])}{more}"
