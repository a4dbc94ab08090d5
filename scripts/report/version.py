"""The bundle's version; light to import, since `--version` answers at once."""

from __future__ import annotations

import json
from pathlib import Path

METADATA = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"


def bundle_version() -> str:
    """Return the bundle's version from its metadata, "" where there is no metadata."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"]) if METADATA.is_file() else ""
