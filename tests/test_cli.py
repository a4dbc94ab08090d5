"""`python -m scripts`: a command that fails says why in one line, and how to see more."""

import subprocess
import sys

import pytest

from scripts import cli
from scripts.cases.io import CaseError, UnreadableCase
from scripts.organ.pack import OrganError
from scripts.run.errors import plainly


def failing(error: BaseException):
    """A command that fails."""

    def command(number: int = 0) -> None:
        """Fail."""
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("give --mask_dir"), "Error: give --mask_dir"),
        (OrganError("no organ pack 'spline'"), "Error: no organ pack 'spline'"),
        (CaseError("a.nii.gz is empty"), "Error: a.nii.gz is empty"),
        (UnreadableCase("a.nii.gz cannot be read"), "Error: a.nii.gz cannot be read"),
        (FileNotFoundError("no label maps in labels/"), "Error: no label maps in labels/"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "Error: a.csv: No such file or directory"),
        (PermissionError(13, "Permission denied"), "Error: [Errno 13] Permission denied"),
    ],
)
def test_errors_of_options_and_data_end_in_one_line(monkeypatch, error, line):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(error))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == line  # Python writes it to stderr and exits with 1
    with pytest.raises(type(error)):
        cli.main(["demo", "--traceback"])
    with pytest.raises(type(error)):
        cli.main(["--traceback", "demo", "--number", "3"])


@pytest.mark.parametrize("error", [KeyError("mask"), RuntimeError("out of memory"), AssertionError()])
def test_other_errors_keep_their_traceback(monkeypatch, error):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(error))
    with pytest.raises(type(error)):
        cli.main(["demo"])


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_command_that_stops_with_a_code_keeps_it(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(SystemExit(3)))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == 3


def test_help_and_unknown_options_are_fires_own(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(ValueError("called")))
    for arguments, code, text in ((["demo", "--help"], 0, "--number"), (["nothing"], 2, "Cannot find key: nothing")):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == code
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--nunber", "--nunber=3", "--dry-run", "--nodry"])
def test_a_mistyped_option_is_refused_before_anything_runs(monkeypatch, option):
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(AssertionError("it ran")))
    with pytest.raises(SystemExit, match=r"^Error: demo has no option --\w+; it has --number$"):
        cli.main(["demo", option, "3"])


def test_options_are_taken_as_fire_takes_them(monkeypatch, capsys):
    def command(number: int, with_mesh: bool = True, **others: str) -> str:
        return f"{number} {with_mesh} {others}"

    def strict(number: int = 1, with_mesh: bool = True) -> str:
        return f"{number} {with_mesh}"

    monkeypatch.setitem(cli.COMMANDS, "demo", command)
    monkeypatch.setitem(cli.COMMANDS, "report", strict)
    for line, printed in (
        ("demo 2 --mine x", "2 True {'mine': 'x'}"),
        ("report --number=-2 --with-mesh False", "-2 False"),
        ("report --nowith_mesh", "1 False"),
        ("report -n 3", "3 True"),
    ):
        cli.main(line.split())
        assert capsys.readouterr().out == printed + "\n"


def test_results_are_printed(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "demo", lambda number: f"{number + 1} cases")
    cli.main(["demo", "2"])
    assert capsys.readouterr().out == "3 cases\n"


def test_a_job_of_the_configs_stops_plainly_and_keeps_the_cause():
    assert plainly(divmod, 7, 2) == (3, 1)
    with pytest.raises(SystemExit, match="^Error: invalid literal for int") as stop:
        plainly(int, "seven")
    assert isinstance(stop.value.__cause__, ValueError)
    with pytest.raises(ZeroDivisionError):
        plainly(divmod, 7, 0)


def test_the_process_ends_with_one_and_a_line_on_stderr(bundle_root, tmp_path):
    line = [sys.executable, "-W", "ignore", "-m", "scripts", "report", "--run_dir", str(tmp_path)]
    plain, long = (
        subprocess.run(one, cwd=bundle_root, capture_output=True, text=True) for one in (line, [*line, "--traceback"])
    )
    assert (plain.returncode, plain.stdout) == (1, "")
    assert plain.stderr.startswith("Error: ") and plain.stderr.count("\n") == 1
    assert long.returncode == 1 and long.stderr.startswith("Traceback") and plain.stderr[7:] in long.stderr
