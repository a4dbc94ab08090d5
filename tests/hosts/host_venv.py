"""Virtual environments of the hosts that the bundle is tested in: made once, and kept while their packages stay."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAMP = ".installed"  # what was asked for, written when all of it is there


def host_python(name: str, requirements: Sequence[str], no_deps: Sequence[str] = ()) -> Path:
    """Return the interpreter of a host's environment, which is made where it is missing or its packages have changed.

    It lies in the folder that the variable HOST_VENVS names, or in `.venv-hosts` of the repository.

    Args:
        name: the environment's folder.
        requirements: what pip installs, with dependencies.
        no_deps: what it installs without.

    Raises:
        pytest.skip.Exception: the packages cannot be installed, as without a network.
    """
    folder = Path(os.environ.get("HOST_VENVS", ROOT / ".venv-hosts")).resolve() / name
    python = folder / "bin" / "python"
    wanted = "\n".join([sys.version, *requirements, "without dependencies:", *no_deps])
    stamp = folder / STAMP
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for options, packages in (((), requirements), (("--no-deps",), no_deps)):
        if packages:
            command = [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "--no-compile",
                *options,
                *packages,
            ]  # compiles on use
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")
    stamp.write_text(wanted)
    return python
