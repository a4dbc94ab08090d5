"""What `--help` prints."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping

from ..run.arguments import ANY, NUMBER, SWITCH, TEXT, WHOLE, Option

PLACES = {TEXT: "TEXT", WHOLE: "N", NUMBER: "X", SWITCH: "true|false", ANY: "VALUE"}
COMMON = {
    "help": "what a command does and what it takes",
    "version": "the bundle's version",
    "quiet": "only warnings and errors",
    "verbose": "also what MONAI and other packages say",
    "traceback": "where an error comes from",
}
INDENT = 26


def help_of_all(program: str, commands: Mapping[str, str]) -> str:
    """Return the help of the program: command → what it does, in a line each."""
    lines = [f"{program} COMMAND [--OPTION VALUE ...]", "", "commands:"]
    lines += [line for name, does in commands.items() for line in _entry(name, does)]
    lines += ["", "options of every command:", *_common()]
    return "\n".join([*lines, "", f"{program} COMMAND --help explains the options of a command."])


def help_of_command(program: str, name: str, description: str, options: Mapping[str, Option], others: str = "") -> str:
    """Return the help of a command."""
    needed = [f"--{one.name} {PLACES[one.kind]}" for one in options.values() if one.required]
    lines = [" ".join([program, name, *needed, "[--OPTION VALUE ...]"]), "", description, "", "options:"]
    for one in options.values():
        default = f" (default: {one.default})" if one.default else " (required)" if one.required else ""
        lines += _entry(f"--{one.name} {PLACES[one.kind]}", f"{one.help}{default}")
    if others:
        lines += _entry("--NAME TEXT", f"further options are {others}, see above")
    return "\n".join([*lines, "", "options of every command:", *_common()])


def _common() -> list[str]:
    return [line for name, does in COMMON.items() for line in _entry(f"--{name}", does)]


def _entry(head: str, text: str) -> list[str]:
    """Return an option or command and its text, wrapped to the terminal beside it."""
    width = max(60, min(120, shutil.get_terminal_size().columns))
    wrapped = textwrap.wrap(text, width - INDENT) or [""]
    start = f"  {head}".ljust(INDENT)
    first = [start + wrapped.pop(0)] if len(start) == INDENT and start.endswith(" ") else [start]
    return [line.rstrip() for line in [*first, *(" " * INDENT + part for part in wrapped)]]
