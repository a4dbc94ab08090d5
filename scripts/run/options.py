"""Options as they come from a command line or from a host."""

from __future__ import annotations

from typing import Any

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0", "none", "")


def choice(value: Any) -> Any:
    """Return an option's value; of a list, as which hosts know the choices an option has, the first: the default."""
    return value[0] if isinstance(value, (list, tuple)) else value


def is_true(value: object) -> bool:
    """Read a switch; `--refine false` reaches a config as the text "false", which Python takes for true.

    Raises:
        ValueError: the text is neither a yes nor a no.
    """
    text = str(value).strip().lower()
    if text not in TRUE + FALSE:
        raise ValueError(f"'{value}' is neither true nor false")
    return text in TRUE
