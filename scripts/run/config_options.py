"""The options of a job as its config states them: keys, defaults and comments above a line that ends them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .arguments import ANY, NUMBER, SWITCH, TEXT, WHOLE, Option, UsageError

END = "# ---- how it is put together"  # the line below which a config's keys are no options
KINDS = {"int": WHOLE, "float": NUMBER, "bool": SWITCH, "null": ANY, "map": ANY, "seq": ANY, "str": TEXT}
NAMES = (
    "organ",
    "preset",
    "source",
    "bundle_root",
    "label",
    "init",
    "resume",
    "grid",
    "network_name",
)  # paths or names
EVALUATED = ("$", "@", "%", "{", "[")  # beginnings that MONAI's config parser does not take as they are
IN_BUNDLE = re.compile(r"\$@bundle_root \+ '/([\w/]+)'$")


def is_path(name: str) -> bool:
    """Whether an option is a path or a name, which is never evaluated."""
    return name in NAMES or name.endswith(("_dir", "_file"))


def options_of(file: str | Path) -> dict[str, Option]:
    """Return the options of a config: name → option.

    What follows a key's value as a comment, also on further lines, is the option's help.
    """
    text = Path(file).read_text(encoding="utf-8").partition(END)[0]
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    lines = text.splitlines()
    found = {}
    for key, value in root.value:
        block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        if not block:
            name = key.value.lstrip("+")
            help = _comment(lines, value.end_mark.line, value.end_mark.column)
            found[name] = Option(name, _kind(name, value), _default(value), help)
    return found


def keys_of(files: Sequence[str | Path]) -> set[str]:
    """Return all top-level keys of configs, their options first among them."""
    keys: set[str] = set()
    for file in files:
        root = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode):
            keys |= {re.split("#|::", key.value.lstrip("+"))[0] for key, _ in root.value}
    return keys


def description_of(file: str | Path) -> str:
    """Return the comment that a config begins with."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line[1:].removeprefix(" ") for line in lines[:end])


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse a path or name that MONAI's config parser would evaluate.

    Raises:
        UsageError: such an option begins with one of `EVALUATED`.
    """
    for name, value in values.items():
        if is_path(name) and str(value).strip("'\" ").startswith(EVALUATED):
            raise UsageError(
                f"--{name} {value}: a path or name does not begin with any of {' '.join(EVALUATED)}, since it would be "
                "evaluated: write ./ before it, or rename it"
            )


def _kind(name: str, value: yaml.Node) -> str:
    if is_path(name):
        return TEXT
    evaluated = isinstance(value, yaml.ScalarNode) and value.value.startswith(("$", "@"))
    return ANY if evaluated else KINDS[value.tag.rpartition(":")[2]]


def _default(value: yaml.Node) -> str:
    """Return a default as the help shows it; "" for what is evaluated, which the comment says in words."""
    if not isinstance(value, yaml.ScalarNode) or value.tag.endswith("null"):
        return ""
    inside = IN_BUNDLE.match(value.value)
    if inside:
        return f"{inside[1]}/ in the bundle"
    return "" if value.value.startswith(("$", "@")) else value.value


def _comment(lines: Sequence[str], line: int, column: int) -> str:
    """Return the comment after a value that ends at a place, with the lines that go on with it."""
    parts = [lines[line][column:].strip()]
    for further in lines[line + 1 :]:
        if not re.match(r"\s+#", further):
            break
        parts.append(further.strip())
    return " ".join(part.lstrip("# ") for part in parts if part.startswith("#"))
