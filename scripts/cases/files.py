"""Files that appear whole or not at all: every file that the bundle writes goes through here."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\.(\d+)-.")  # how the name of a file that is being written begins: the process's number


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, renamed to `path` when the block ends well and removed if not.

    It has the same ending. Missing folders are made. The content is on the disk before the name is, so that a machine
    that fails leaves no empty file under it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed processes were writing in a folder and the two levels of folders in it.

    A file of this process's own number is a leftover too: in containers every process has the same. So call it before
    this process writes there.
    """
    for pattern in (".*-*", "*/.*-*", "*/*/.*-*"):
        for file in Path(folder).glob(pattern):
            found = TEMPORARY.match(file.name)
            if found and (int(found[1]) == os.getpid() or not is_alive(int(found[1]))):
                file.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def shown(name: str) -> str:
    """Return a text that can be written as UTF-8: of a file's name, bytes that are not stand as `\\xe9`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character, as JSON and YAML can hold
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(shown(text), encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as JSON, indented, whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; the columns are all keys in order of appearance, NaN is left blank."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [shown(column) for column in columns], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({shown(key): _csv_value(value) for key, value in row.items()})


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return shown(value) if isinstance(value, str) else value
