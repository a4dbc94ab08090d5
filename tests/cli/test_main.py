"""`python -m scripts`: help and refusals come at once, and a command that fails says why in one line."""

import os
import re
import subprocess
import sys

import pytest

from scripts.cases.errors import CaseError, UnreadableCase
from scripts.cli import main as cli
from scripts.organ.pack import OrganError
from scripts.run.errors import plainly


@pytest.fixture
def demo(monkeypatch):
    """Puts a function in the place of the command `demo`; what it is called with is returned in a list."""

    def put(act=lambda: None):
        called = []

        def command(**options):
            called.append(options)
            return act()

        real = cli.load
        monkeypatch.setattr(cli, "load", lambda address: command if address == "demo:demo" else real(address))
        return called

    monkeypatch.setattr(cli, "_set_logging", lambda common: None)
    return put


def failing(error):
    """A command that fails."""

    def act():
        raise error

    return act


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
def test_errors_of_options_and_data_end_in_one_line(demo, error, line):
    demo(failing(error))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == line  # Python writes it to stderr and exits with 1
    with pytest.raises(type(error)):
        cli.main(["demo", "--traceback"])
    with pytest.raises(type(error)):
        cli.main(["--traceback", "demo", "--seed", "3"])


def test_what_a_config_wraps_ends_in_the_line_of_its_cause(demo):
    def wrapped():
        try:
            raise ValueError("there is no such folder")
        except ValueError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression: $x") from error

    demo(wrapped)
    with pytest.raises(SystemExit, match="^Error: there is no such folder$"):
        cli.main(["demo"])


def test_a_package_that_is_missing_is_named_with_the_remedy(demo):
    demo(failing(ModuleNotFoundError("No module named 'monai'", name="monai")))
    with pytest.raises(SystemExit, match="^Error: the package monai is missing: run pip install -r requirements.txt"):
        cli.main(["demo"])
    demo(failing(ModuleNotFoundError("No module named 'highdicom'", name="highdicom")))
    with pytest.raises(SystemExit, match="highdicom is missing: run pip install -r requirements-dicom.txt"):
        cli.main(["demo"])


@pytest.mark.parametrize("error", [KeyError("mask"), RuntimeError("out of memory"), AssertionError()])
def test_other_errors_keep_their_traceback(demo, error):
    demo(failing(error))
    with pytest.raises(type(error)):
        cli.main(["demo"])


def test_an_interrupted_command_says_so(demo, capsys):
    demo(failing(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_command_that_stops_with_a_code_keeps_it(demo):
    demo(failing(SystemExit(3)))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == 3


def test_results_are_printed(demo, capsys):
    called = demo(lambda: "3 cases")
    cli.main(["demo", "--seed", "2", "--quiet"])
    assert capsys.readouterr().out == "3 cases\n" and called == [{"seed": 2}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--sede", "3"], "demo has no option --sede: did you mean --seed"),
        (["demo", "--nohtml"], "demo has no option --nohtml"),
        (["demo", "--seed", "three"], "--seed takes a whole number, not 'three'"),
        (["refine", "--presets", "linear"], "refine has no option --presets: did you mean --preset"),
        (["refine", "--dataset_dir", "$print(1)"], r"--dataset_dir \$print\(1\): a path or name does not begin with"),
        (["evalute"], "there is no command evalute: did you mean evaluate"),
        (["--versoin"], "there is no command --versoin: did you mean --version"),
    ],
)
def test_what_is_mistyped_is_refused_with_the_nearest_before_anything_runs(demo, arguments, message):
    called = demo()
    with pytest.raises(SystemExit, match=f"^Error: {message}"):
        cli.main(arguments)
    assert called == []


def test_a_job_runs_its_config_with_the_options_given(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "load", lambda address: lambda **values: called.append((address, values)))
    monkeypatch.setattr(cli, "_set_logging", lambda common: None)
    cli.main("refine masks/ --organ liver --seed=3 --html false --device cuda:0".split())
    expected = {"job": ("refine",), "dataset_dir": "masks/", "organ": "liver", "seed": 3, "html": False}
    assert called == [(cli.RUN_JOB, {**expected, "device": "cuda:0"})]


@pytest.mark.parametrize("name", [*cli.JOBS, *cli.FUNCTIONS])
def test_every_command_explains_every_option(name, capsys):
    known = cli.describe(name)
    assert known.options and known.description
    assert [option.name for option in known.options.values() if not option.help] == []
    cli.main([name, "--help"])
    printed = capsys.readouterr().out
    assert all(f"--{option} " in printed for option in known.options)


@pytest.mark.parametrize("name", cli.JOBS)
def test_a_job_s_default_that_is_computed_is_said_in_words(name):
    """`--help` cannot show an expression."""
    for option in cli.describe(name).options.values():
        if option.kind == "value" and not option.default:
            assert re.search("null|else|where|changes to|as the pack|reaches", option.help), option


def test_the_program_lists_its_commands(capsys):
    cli.main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in [*cli.JOBS, *cli.FUNCTIONS])
    cli.main(["--version"])
    assert capsys.readouterr().out.strip().count(".") == 2


@pytest.mark.parametrize(
    "line", ["--help", "--version", "refine --help", "cohort --help", "refine --datset_dir x", "evaluate --porcesses 4"]
)
def test_help_and_refusals_come_before_torch_and_numpy_are_loaded(bundle_root, line):
    code = "import sys, scripts.cli.main as m\n"
    code += "try: m.main(sys.argv[1:])\nfinally: print({'torch', 'monai', 'numpy', 'dask'} & {*sys.modules})"
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, cwd=bundle_root, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n") and "Traceback" not in done.stderr


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


def test_a_run_says_nothing_before_its_first_case(bundle_root, tmp_path):
    """No warnings of other packages, no account of the config; --quiet leaves warnings and errors."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.nii.gz").write_bytes(b"broken")
    folders = ["--dataset_dir", str(tmp_path / "masks"), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    line = [sys.executable, "-m", "scripts", "refine", *folders, "--html", "false"]
    done = subprocess.run(line, cwd=bundle_root, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    said = done.stdout.splitlines()
    assert said[0].startswith("[1/1] a failed: ") and said[1:3] == ["1 case: 1 failed", "look at: a (failed)"]
    quiet = subprocess.run([*line, "--quiet"], cwd=bundle_root, capture_output=True, text=True)
    assert quiet.stdout.splitlines() == said[:1] and quiet.stderr == ""


def test_a_training_says_its_losses_plainly_less_with_quiet_and_more_with_verbose(bundle_root):
    """MONAI's handlers get loggers of their own, and ignite's engines one a class."""
    text = """
import logging, sys
from monai.apps import get_logger
from scripts.cli.main import _set_logging
_set_logging(set(sys.argv[1:]))
for name in ("train_prior", "monai.handlers.StatsHandler"):
    get_logger(name).info("loss of %s", name)
logging.getLogger("ignite.engine.engine.SupervisedTrainer").info("Engine run starting")
logging.getLogger("ignite.engine.engine.SupervisedTrainer").error("no memory")
"""
    said = [
        subprocess.run([sys.executable, "-c", text, *given], cwd=bundle_root, capture_output=True, text=True).stdout
        for given in ([], ["quiet"], ["verbose"])
    ]
    losses = "loss of train_prior\nloss of monai.handlers.StatsHandler\n"
    assert said == [f"{losses}no memory\n", "no memory\n", f"{losses}Engine run starting\nno memory\n"]


def test_a_reader_that_has_had_enough_is_no_error(bundle_root):
    """`shape-refine train-prior --help | head -1`: the rest of the help has nowhere to go."""
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "scripts", "train-prior", "--help"]
    done = subprocess.run(line, cwd=bundle_root, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == "" and done.returncode == 1
