"""Options and help of a Python command, read from its source: so a command is described before it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..run.arguments import NUMBER, SWITCH, TEXT, WHOLE, Option

PACKAGE = Path(__file__).resolve().parents[1]
KINDS = {"str": TEXT, "int": WHOLE, "float": NUMBER, "bool": SWITCH}
ARGUMENT = re.compile(r"^(\*{0,2}\w+): (.*)")


@dataclass(frozen=True)
class Signature:
    """What a command takes and what it does.

    Attributes:
        options: name → option, in the function's order.
        description: its docstring, without the sections.
        others: what further options stand for, such as "methods"; "" where it takes none.
    """

    options: Mapping[str, Option]
    description: str
    others: str = ""


def signature_of(address: str) -> Signature:
    """Read the signature of a function.

    Args:
        address: `module:function`, the module within the package.
    """
    module, _, name = address.partition(":")
    file = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    description, helps = _parts(ast.get_docstring(function) or "")
    arguments = function.args.args
    defaults: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
    defaults += function.args.defaults
    options = {}
    for argument, default in zip(arguments, defaults, strict=True):
        kind = KINDS.get(argument.annotation.id, TEXT) if isinstance(argument.annotation, ast.Name) else TEXT
        text = "" if default is None else _shown(_value(default, tree, file))
        options[argument.arg] = Option(argument.arg, kind, text, helps.get(argument.arg, ""), default is None)
    return Signature(options, description, function.args.kwarg.arg if function.args.kwarg else "")


def _parts(docstring: str) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring, and name → text of its arguments."""
    text, _, rest = docstring.partition("\nArgs:\n")
    helps: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line.startswith("    "):
            break
        found = ARGUMENT.match(line[4:])
        if found:
            name, helps[found[1]] = found[1], found[2]
        elif name and line.strip():
            helps[name] += " " + line.strip()
    return re.split(r"\n(?:Returns|Raises):\n", text)[0].strip(), helps


def _value(node: ast.expr, tree: ast.Module, file: Path) -> object:
    """Return the value of a default: a literal, or a constant of the module or of one that it imports from."""
    if not isinstance(node, ast.Name):
        return ast.literal_eval(node)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == node.id for target in statement.targets
        ):
            return _value(statement.value, tree, file)
        if isinstance(statement, ast.ImportFrom) and node.id in [one.name for one in statement.names]:
            other = file.parents[statement.level - 1].joinpath(*(statement.module or "").split(".")).with_suffix(".py")
            return _value(node, ast.parse(other.read_text(encoding="utf-8")), other)
    raise ValueError(f"{file}: {node.id} is no constant")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
