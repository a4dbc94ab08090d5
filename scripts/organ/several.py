"""Several organ packs in one run: the pack that holds all of them, each structure once.

Its labels are numbered anew, pack after pack. Of packs that know the same structure the first one refines it. A name
that means different structures in several packs, such as `tumour`, means none here: nobody can tell whose it is. A
label that a pack knows without refining it, such as a gallbladder, is left to a pack that refines it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .pack import MODELS, Member, OrganError, OrganPack, is_pack, known_organs
from .sources import Meanings, plain
from .structure import Structure

ALL, AUTO = "all", "auto"


def load_packs(organ: Any) -> OrganPack:
    """Return the pack of a name or path; or one of several, see `asked_packs`.

    Raises:
        OrganError: a pack is missing, or its organ.yaml does not hold what it must.
    """
    return union(asked_packs(organ))


def asked_packs(organ: Any) -> list[OrganPack]:
    """Return the packs of names or paths with commas between them, or of a list of such.

    `all` stands for all packs of `models/` that are trained, those with fewer structures first: these were made for
    just them. `auto` has the same, of which some are chosen later.

    Raises:
        OrganError: see `load_packs`; or none is trained.
    """
    names = names_asked(organ)
    if len(names) == 1 and names[0] in (ALL, AUTO):
        known = [OrganPack.load(name) for name in sorted(known_organs())]
        trained = [pack for pack in known if pack.is_trained]
        if not trained:
            raise OrganError(f"no organ pack in {MODELS} is trained: give the path of one as --organ")
        return sorted(trained, key=lambda pack: len(pack.structures))
    if len(names) == 1 and not is_pack(Path(names[0])):
        names = [name.strip() for name in names[0].split(",") if name.strip()] or names
    return [OrganPack.load(name) for name in dict.fromkeys(names)]


def names_asked(organ: Any) -> list[str]:
    """Return what is asked for as texts: one, or those of a list."""
    return [str(name) for name in organ] if isinstance(organ, (list, tuple)) else [str(organ)]


def union(packs: Sequence[OrganPack]) -> OrganPack:
    """Return the pack that holds all of several, in their order; of a single one, itself."""
    if len(packs) == 1:
        return packs[0]
    members: list[Member] = []
    for pack in packs:
        members.append(_beside(_without(pack, _refined_elsewhere(pack, packs)), members))
    members = [_passing_on(member, pack, packs, members) for member, pack in zip(members, packs, strict=True)]
    doubtful = _doubtful(members)
    labels, structures = {}, []
    codes: dict[int, str] = {}
    sources: Meanings = {}
    sides: dict[str, dict[int | str, str]] = {}
    for pack, to in ((member.pack, member.labels) for member in members):
        structures += [replace(one, labels=tuple(to[value] for value in one.labels)) for one in pack.structures]
        for value, name in pack.labels.items():
            labels[to[value]] = f"{pack.name}_{name}" if plain(name) in doubtful else name
        codes |= {to[value]: code for value, code in pack.codes.items() if value in to}
        for source, meanings in pack.sources.items():
            sources.setdefault(source, {}).update({key: to[value] for key, value in meanings.items()})
            sides.setdefault(source, {}).update(pack.source_sides.get(source, {}))
    for member in members:
        for source, passed in member.passed.items():
            sources[source] = passed | sources.get(source, {})
    sources = {
        source: {key: value for key, value in meanings.items() if plain(str(key)) not in doubtful}
        for source, meanings in sources.items()
    }
    return OrganPack(
        folder=MODELS / "*",
        name=",".join(pack.name for pack in packs),
        labels=labels,
        structures=tuple(structures),
        codes={
            one.labels[value]: code for one in members for value, code in one.pack.codes.items() if value in one.labels
        },
        sources=sources,
        source_sides=sides,
        members=tuple(
            replace(one, names={name: value for name, value in one.names.items() if name not in doubtful})
            for one in members
        ),
    )


def _doubtful(members: Sequence[Member]) -> set[str]:
    """Return the names that mean different labels in several packs."""
    meant: dict[str, set[int]] = {}
    for member in members:
        known = [(name, member.labels[value]) for name, value in member.pack.named().items()]
        passed = [pair for meanings in member.passed.values() for pair in meanings.items()]
        known += [*member.names.items(), *((plain(key), value) for key, value in passed if isinstance(key, str))]
        for name, value in known:
            meant.setdefault(name, set()).add(value)
    return {name for name, values in meant.items() if len(values) > 1}


def _beside(pack: OrganPack, earlier: Sequence[Member]) -> Member:
    """Return a pack as a member beside earlier ones, without what these know."""
    left: dict[str, str] = {}
    passed: Meanings = {}
    names: dict[str, int] = {}
    others: list[OrganPack] = []
    for one in pack.structures:
        same = next(((member, label) for member in earlier if (label := _same(member.pack, one, pack))), None)
        if same is not None:
            member, label = same
            left[one.name] = member.pack.name
            others.append(member.pack)
            its_names, theirs = _called(one, pack, member, label)
            names |= its_names
            passed = {source: theirs[source] | passed.get(source, {}) for source in theirs} if theirs else passed
    kept = tuple(one for one in pack.structures if one.name not in left)
    free = set(pack.labels).difference(*(one.labels for one in pack.structures)) if kept else set()
    labels = {value: name for value, name in pack.labels.items() if value in free.union(*(s.labels for s in kept))}
    sources = {
        source: {
            key: value
            for key, value in meanings.items()
            if value in labels and not any(_meaning(other, source, key) for other in others)
        }
        for source, meanings in pack.sources.items()
    }
    first = 1 + sum(len(member.labels) for member in earlier)
    values = dict(zip(labels, range(first, first + len(labels)), strict=True))
    return Member(replace(pack, labels=labels, structures=kept, sources=sources), values, left, passed, names)


def _refined_elsewhere(pack: OrganPack, packs: Sequence[OrganPack]) -> dict[int, tuple[int, int]]:
    """Return which labels of a pack have no structure there, but in another pack: label → place of that, its label."""
    found: dict[int, tuple[int, int]] = {}
    for value in set(pack.labels).difference(*(one.labels for one in pack.structures)):
        for place, other in enumerate(packs):
            refined = {label for one in other.structures for label in one.labels}
            label = _same(other, Structure(pack.labels[value], (value,)), pack) if other is not pack else 0
            if label in refined:
                found.setdefault(value, (place, label))
    return found


def _without(pack: OrganPack, labels: Iterable[int]) -> OrganPack:
    """Return a pack without labels that no structure of it has."""
    gone = set(labels)
    kept = {source: {k: v for k, v in known.items() if v not in gone} for source, known in pack.sources.items()}
    return replace(pack, labels={v: name for v, name in pack.labels.items() if v not in gone}, sources=kept)


def _passing_on(member: Member, pack: OrganPack, packs: Sequence[OrganPack], members: Sequence[Member]) -> Member:
    """Return a member whose names of labels that another one refines lead there; `pack` is what it was made of."""
    names, passed = dict(member.names), dict(member.passed)
    for value, (place, label) in _refined_elsewhere(pack, packs).items():
        if label in members[place].labels:
            its_names, theirs = _called(Structure(pack.labels[value], (value,)), pack, members[place], label)
            names |= its_names
            passed |= {source: theirs[source] | passed.get(source, {}) for source in theirs}
    return replace(member, names=names, passed=passed)


def _called(one: Structure, pack: OrganPack, member: Member, label: int) -> tuple[dict[str, int], Meanings]:
    """Return what a pack and its sources call a structure that a member has as a label: names, and those of sources.

    They are none for a whole whose halves the member has: nobody can tell which half is meant.
    """
    known, to = member.pack.named(), member.labels[label]
    if len({known[name] for name in _names(one, pack) if name in known}) > 1:
        return {}, {}
    passed: Meanings = {}
    for source, meanings in pack.sources.items():
        sides = pack.source_sides.get(source, {}) if one.side else {}
        passed[source] = {
            key: to for key, value in meanings.items() if value in one.labels and sides.get(key, one.side) == one.side
        }
    return {name: to for name in _names(one, pack) if name not in known}, passed


def _same(other: OrganPack, structure: Structure, pack: OrganPack) -> int:
    """Return the label by which a pack has a structure of another: by either's name, or a value of the same source.

    It is 0 where it has no such structure.
    """
    known, own = other.named(), pack.named()
    by_name = (known[name] for name in _names(structure, pack) if name in known)
    by_its_name = (
        one.labels[0] for one in other.structures if any(own.get(n) in structure.labels for n in _names(one, other))
    )
    by_value = (
        label
        for source, meanings in pack.sources.items()
        for key, value in meanings.items()
        if value in structure.labels and isinstance(key, int) and (label := _meaning(other, source, key))
    )
    return next((label for found in (by_name, by_its_name, by_value) for label in found), 0)


def _meaning(pack: OrganPack, source: str, key: int | str) -> int:
    """Return what a pack means by a name, or by a value of a source; 0 where it knows none such."""
    return pack.named().get(plain(key), 0) if isinstance(key, str) else pack.sources.get(source, {}).get(key, 0)


def _names(structure: Structure, pack: OrganPack) -> list[str]:
    """Return the names of a structure, of its sides, and of its label where it has one only; each once."""
    names = [shape.name for shape in (structure, *structure.pair)]
    labels = [pack.labels[value] for value in structure.labels]
    return list(dict.fromkeys(plain(name) for name in (*names, *(labels if len(labels) == 1 else []))))
