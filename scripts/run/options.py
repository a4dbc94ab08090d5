"""Options as they come from a command line or from a host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

NAMES = ("organ", "preset", "source", "bundle_root")  # options that are paths or names, beside all `..._dir`
EVALUATED = ("$", "@", "%", "{", "[")  # beginnings that MONAI's config parser does not take as they are
TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0", "none", "")


class Offered(dict[str, Any]):
    """Options that a host shows to its users, and that it does not write into the config.

    MONAI Label copies this dictionary into the list that clients get. Then, for every request, it writes the request's
    values of `keys()` into the config and parses that: a text `$...` would be run, a mapping with `_target_` built, and
    a text `%...` replaced by a file's content. So there are no keys. The values come with the data: see
    `request.OpenRequest`.
    """

    def keys(self) -> Any:
        """Return no keys."""
        return {}.keys()


def choice(value: Any) -> Any:
    """Return an option's value; of a list, as which hosts know the choices an option has, the first: the default."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


def is_true(value: object) -> bool:
    """Read a switch; `--refine false` reaches a config as the text "false", which Python takes for true.

    Raises:
        ValueError: the text is neither a yes nor a no.
    """
    text = str(value).strip().lower()
    if text not in TRUE + FALSE:
        raise ValueError(f"'{value}' is neither true nor false")
    return text in TRUE


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Refuse a path or name that `monai.bundle run` would take for an expression, a reference or a file to insert.

    Args:
        arguments: of the command, such as ["run", "--organ", "thorax"]; None for those of the process.

    Raises:
        SystemExit: such an option begins with one of `EVALUATED`.
    """
    given = sys.argv[1:] if arguments is None else [*arguments]
    for option, after in pairwise([*given, ""]):
        name, equals, own = option.partition("=")
        value = own if equals else after
        is_path = name.startswith("--") and (name[2:] in NAMES or name.endswith("_dir"))
        if is_path and value.strip("'\" ").startswith(EVALUATED):
            raise SystemExit(
                f"Error: {name} {value}: a path or name does not begin with any of {' '.join(EVALUATED)}, since it "
                "would be evaluated: write ./ before it, or rename it"
            )
