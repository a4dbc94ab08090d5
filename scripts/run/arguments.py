"""Options of a command line: their names, what they take, and which one a mistyped one may have meant.

It imports nothing heavy: the command line answers `--help` and mistyped options before torch is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from .options import is_true

TEXT, WHOLE, NUMBER, SWITCH, ANY = "text", "whole number", "number", "true or false", "value"


SHORT = 4  # letters; names of methods that are shorter may begin as an option does
SURELY = 0.7  # `difflib`'s ratio from which a name is a mistyped one: "refined" is none of "reference"


class UsageError(ValueError):
    """An option is unknown, lacks its value, or has one that it does not take."""


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        name: as it follows the `--`.
        kind: what it takes: TEXT, WHOLE, NUMBER, SWITCH or ANY, which is read as YAML.
        default: as `--help` shows it; "" where the help says it in words, or there is none.
        help: what it is.
        required: whether it must be given.
    """

    name: str
    kind: str = TEXT
    default: str = ""
    help: str = ""
    required: bool = False

    def read(self, text: str) -> Any:
        """Return the value that a text means.

        Raises:
            UsageError: it is none that the option takes.
        """
        try:
            if self.kind == WHOLE:
                return int(text)
            if self.kind == NUMBER:
                return float(text)
            if self.kind == SWITCH:
                return is_true(text)
            return text if self.kind == TEXT else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            article = "" if self.kind == SWITCH else "a "
            raise UsageError(f"--{self.name} takes {article}{self.kind}, not '{text}'") from None


def nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """Return the known name that a mistyped one is most alike (`difflib`) or that it begins, "" where none is near."""
    begun = (one for one in known if one.startswith(name))
    return next(iter(get_close_matches(name, known, 1, cutoff)), "") or next(begun, "")


def unknown(command: str, name: str, known: Collection[str]) -> UsageError:
    """Return the error that names an option which a command does not have, and the nearest that it has."""
    near = nearest(name, known)
    remedy = f"did you mean --{near}?" if near else f"it has {', '.join(f'--{one}' for one in known)}"
    return UsageError(f"{command} has no option --{name}: {remedy}")


def read_arguments(
    command: str, given: Sequence[str], options: Mapping[str, Option], others: str = ""
) -> dict[str, Any]:
    """Read what follows a command: `--name value`, `--name=value`, `--switch`, `--noswitch`, or values in their order.

    Args:
        command: its name, for messages.
        given: the arguments.
        options: name → option.
        others: what options beside these stand for, such as "methods"; "" where there are none. One whose name is near
            to an option's is taken for a mistyped one.

    Returns:
        Name → value of what is given; of what is given twice the last.

    Raises:
        UsageError: an option is unknown, without a value or with a wrong one, or one is missing.
    """
    found: dict[str, Any] = {}
    left = list(given)
    while left:
        part = left.pop(0)
        if part.startswith("--") and part != "--":
            name, equals, text = part[2:].partition("=")
            name = name.replace("-", "_")
            option = options.get(name)
            if option is None and (off := options.get(name.removeprefix("no"))) and off.kind == SWITCH and not equals:
                name, equals, text, option = off.name, "=", "false", off
            if option is None:
                if not others or (len(name) >= SHORT and nearest(name, options, SURELY)):
                    raise unknown(command, name, options)
                option = Option(name)
            if not equals:
                text = _value_of(option, left)
        else:
            free = [name for name in options if name not in found]
            if not free:
                raise UsageError(f"{command} takes no further value: '{part}'; see {command} --help")
            name, text = free[0], part
            option = options[name]
        found[name] = option.read(text)
    missing = [name for name, option in options.items() if option.required and name not in found]
    if missing:
        raise UsageError(f"{command} needs {', '.join(f'--{name}' for name in missing)}; see {command} --help")
    return found


def _value_of(option: Option, left: list[str]) -> str:
    """Take an option's value from the arguments that are left; a switch may stand alone, last or before an option."""
    if option.kind == SWITCH and (not left or left[0].startswith("--")):
        return "true"
    if not left or left[0].startswith("--"):
        raise UsageError(f"--{option.name} needs a value")
    return left.pop(0)
