"""What a run prints: names of files in any script, whatever the terminal can show."""

from __future__ import annotations

import io
import sys


def take_any_text() -> None:
    """Let standard output and error take every text: what their encoding lacks is printed as `\\xf6`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
