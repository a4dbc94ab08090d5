"""A YAML file of settings: read as a mapping, or refused in one plain line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from .checks import OrganError, shown


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that stands twice: of the two, one would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = next((key for key, _ in reversed(node.value) if counts[str(key.value)] > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {shown(twice.value)} stands twice", problem_mark=twice.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> dict[Any, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        OrganError: the file cannot be read, is no UTF-8 text, no YAML, or no mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OrganError(f"{file} is no UTF-8 text: save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise OrganError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}: check its name and rights"
        ) from error
    try:
        values = yaml.load(text, _Loader)
    except RecursionError as error:
        raise OrganError(f"{file} is nested too deeply: remove what no pack has") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise OrganError(f"{file} is no valid YAML{where}: {problem}; repair it") from error
    if not isinstance(values, dict):
        raise OrganError(f"{file} is no mapping: write lines of 'key: value'")
    return values
