"""Virtual environments of the hosts, which cannot share the project's: made once, kept while pins are unchanged."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def host_python(name: str, requirements: Sequence[str], no_deps: Sequence[str] = ()) -> Path:
    """Return the interpreter of a host's environment, `.venv-hosts/<name>` or `<HOSTS_DIR>/<name>`.

    Args:
        name: of the environment.
        requirements: what pip installs together.
        no_deps: what it installs after that without dependencies.

    Skips the test where the packages cannot be had; requirements that contradict each other are a failure.
    """
    folder = Path(os.environ.get("HOSTS_DIR", ROOT / ".venv-hosts")) / name
    python, stamp = folder / "bin" / "python", folder / ".pins"
    pins = "\n".join([*requirements, *(f"{requirement} (no dependencies)" for requirement in no_deps), ""])
    if python.is_file() and stamp.is_file() and stamp.read_text() == pins:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for options in (list(requirements), ["--no-deps", *no_deps] if no_deps else []):
        if options:
            quick = ["--quiet", "--disable-pip-version-check", "--no-compile"]
            pip = [str(python), "-m", "pip", "install", *quick, *options]
            done = subprocess.run(pip, capture_output=True, text=True)
            assert "ResolutionImpossible" not in done.stderr, done.stderr
            if done.returncode:
                pytest.skip(f"{name}: packages cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    stamp.write_text(pins)
    return python


def requirement_lines(*files: Path) -> list[str]:
    """Return the requirements that files list."""
    lines = (line.strip() for file in files for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]
