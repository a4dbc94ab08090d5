"""What is refused ends with what the user can do, in every room that looks at a user's files and options."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("cases", "organ", "run")
OF_USERS = {"ValueError", "CaseError", "UnreadableCase", "UnrefinableCase", "OrganError", "BadRequest", "UsageError"}
OF_USERS |= {"FolderInUse", "SystemExit", "IsADirectoryError"}
REASON = re.compile(r"its? ")  # how a message begins that is part of another, which has the remedy
REMEDY = re.compile(
    r"[:;,] (?:or )?(?:add|check|choose|convert|copy|did|draw|export|give|leave|make|move|name|one|put|remove|rename|"
    r"repair|resample|save|see|set|submit|take|threshold|train|use|wait|write)\b|"
    r"Train a new one|needs a value|must be|-- takes"
)


def messages() -> dict[str, str]:
    """Where a message is raised → its fixed words."""
    found = {}
    for file in (file for room in ROOMS for file in sorted((ROOT / "scripts" / room).glob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                parts = [
                    n.value for n in ast.walk(node.exc) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                text = "".join(parts)
                if node.exc.func.id in OF_USERS and len(text.split()) > 1 and not REASON.match(text):
                    found[f"{file.relative_to(ROOT)}:{node.lineno}"] = text
    return found


@pytest.mark.parametrize(("place", "text"), messages().items())
def test_a_refusal_says_what_to_do(place, text):
    assert REMEDY.search(text), f"{place}: {text}"
