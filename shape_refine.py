"""The command `shape-refine`, which `pip install -e .` installs, and the way to the bundle's package `scripts`.

Other projects have a package called `scripts` too. So nothing of that name is installed: this module, whose name is the
bundle's own, lies in the bundle's folder and puts it first on the path.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def use() -> None:
    """Make the bundle's package `scripts` the one that `import scripts` finds.

    Raises:
        ImportError: another package of that name has been imported already, or the bundle is not there.
    """
    if not (ROOT / "configs").is_dir():
        raise ImportError(
            f"the bundle is not beside {__file__}: install it by `pip install -e .` in the bundle's folder"
        )
    if sys.path[:1] != [str(ROOT)]:
        sys.path.insert(0, str(ROOT))
    found = import_module("scripts").__path__[0]
    if Path(found).resolve() != ROOT / "scripts":
        raise ImportError(
            f"another package called scripts, {found}, has been imported before the bundle's: import it in a process "
            "of its own, or call shape_refine.use() first"
        )


def main() -> None:
    """Run the command line."""
    try:
        use()
    except ImportError as error:
        raise SystemExit(f"Error: {error}") from None
    import_module("scripts.cli.main").main()
