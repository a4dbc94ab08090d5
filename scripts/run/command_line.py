"""The command line of `python -m monai.bundle run`, which itself takes any option, also one that no config has."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from .arguments import UsageError, unknown
from .config_options import EVALUATED, check_values, keys_of, options_of
from .errors import plain_text_of
from .streams import take_any_text

FILES = {"config_file", "meta_file", "args_file", "logging_file"}  # MONAI's own; some are lists in brackets
MONAI = FILES | {"run_id", "init_id", "final_id", "tracking", "tracking_uri", "experiment_name", "run_name"}
MONAI |= {"save_execute_config", "_meta_"}


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Check the options of `monai.bundle run` before anything of its config is evaluated; end in one line from here on.

    Refused are options that no config has, wrong numbers and switches, and paths and names that would be taken for an
    expression, a reference or a file to insert. Other processes than those of `monai.bundle run` are left alone.

    Args:
        arguments: of the command, such as ["run", "--organ", "thorax"]; None for those of the process.

    Raises:
        SystemExit: an option is refused; with a message.
    """
    given = sys.argv[1:] if arguments is None else [*arguments]
    values = given_options(given)
    try:
        check_values({name: value for name, value in values.items() if name not in FILES})
        files = config_files(values.get("config_file", ""))
        if files:
            check_job(values, files)
    except UsageError as error:
        raise SystemExit(f"Error: {error}") from None
    if arguments is None and "monai.bundle" in sys.orig_argv:
        warnings.filterwarnings("ignore", "NvImgCodec", module="monai")  # a reader of DICOM that nobody asked for
        sys.excepthook = end_plainly
        take_any_text()


def given_options(given: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line, name → value, as `monai.bundle run` takes them."""
    found = {}
    for option, after in pairwise([*given, ""]):
        name, equals, own = option.partition("=")
        if name.startswith("--"):
            found[name[2:].replace("-", "_")] = own if equals else after
    return found


def config_files(text: str) -> list[str]:
    """Return the config files that the option names, one or a list; none where they are not there."""
    files = re.findall(r"[^\[\]'\", ]+", text)
    return files if all(Path(file).is_file() for file in files) else []


def check_job(values: Mapping[str, str], files: Sequence[str]) -> None:
    """Refuse options that no config of a job has, and values of a wrong kind.

    Raises:
        UsageError: there is such an option or value.
    """
    options = {name: option for file in files for name, option in options_of(file).items()}
    keys = keys_of(files) | MONAI
    for name, value in values.items():
        key = re.split("#|::", name.lstrip("+"))[0]
        if key not in keys:
            raise unknown(Path(files[0]).name, key, list(options))
        if name in options and not value.startswith(EVALUATED):
            options[name].read(value)


def end_plainly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write an error that ends the process: in one plain line, where options or data are at fault."""
    text = "stopped" if isinstance(error, KeyboardInterrupt) else plain_text_of(error)
    if text:
        print(text, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
