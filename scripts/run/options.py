"""Options as they come from a host."""

from __future__ import annotations

from typing import Any

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
        raise ValueError(f"'{value}' is neither true nor false: write one of them")
    return text in TRUE
