"""The command line of `python -m monai.bundle run`: none of it is evaluated, and nothing mistyped is passed over."""

import os
import subprocess
import sys

import pytest

from scripts.run.command_line import check_command_line, end_plainly


@pytest.mark.parametrize("value", ["$print(1)", "@seed", "%a.yaml#b", "{'_target_': 'os.getcwd'}", "['$1']", "'$1'"])
@pytest.mark.parametrize("name", ["--dataset_dir", "--organ", "--source"])
def test_paths_and_names_that_would_be_evaluated_are_refused(name, value):
    for arguments in ([name, value], [f"{name}={value}"]):
        with pytest.raises(SystemExit, match=f"^Error: {name} .*write ./ before it"):
            check_command_line(["run", *arguments])


def test_other_options_are_left_alone():
    check_command_line(["run", "--organ", "./$odd", "--dataset_dir=a$b", "--device", "$torch.device('cpu')", "--html"])
    check_command_line(["serve", "--what", "ever"])
    check_command_line([])


@pytest.fixture
def run(bundle_root):
    def check(*arguments, configs=("train",)):
        files = ",".join(f"'{bundle_root / 'configs' / name}.yaml'" for name in configs)
        check_command_line(["run", "--config_file", f"[{files}]", *arguments])

    return check


def test_options_that_no_config_has_are_refused_with_the_nearest(run):
    with pytest.raises(SystemExit, match="^Error: train.yaml has no option --max_epoch: did you mean --max_epochs"):
        run("--max_epoch", "3")
    with pytest.raises(SystemExit, match="train.yaml has no option --eval_dir"):
        run("--eval_dir", "eval")
    run("--eval_dir", "eval", configs=("train", "evaluate_network"))


def test_parts_of_the_config_and_monai_s_own_options_are_known(run):
    run(
        "--train#trainer#max_epochs",
        "3",
        "--optimizer::lr=1",
        "--max-epochs",
        "2",
        "--logging_file",
        "x",
        "--run_id",
        "r",
    )
    run("--max_epochs", "$2 + 1", "--resume", "null", "--seed", "-1")


@pytest.mark.parametrize(("name", "value"), [("max_epochs", "many"), ("augmentation", "none"), ("seed", "1.5")])
def test_values_of_a_wrong_kind_are_refused(run, name, value):
    with pytest.raises(SystemExit, match=f"^Error: --{name} takes a .*number, not '{value}'"):
        run(f"--{name}", value)


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (ValueError("no such folder"), "Error: no such folder\n"),
        (KeyboardInterrupt(), "stopped\n"),
        (KeyError("pred"), "KeyError: 'pred'\n"),
    ],
)
def test_what_ends_a_run_is_said_in_a_line_but_errors_of_the_program_in_full(capsys, error, printed):
    end_plainly(type(error), error, None)
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("job", ["inference", "refine"])
def test_job_ends_before_it_evaluates_a_path(bundle_root, tmp_path, job):
    ran = tmp_path / "ran"
    command = ["run", "--config_file", f"configs/{job}.yaml"]
    command += ["--dataset_dir", f"$__import__('pathlib').Path('{ran}').touch()", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *command],
        cwd=bundle_root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Error: --dataset_dir $__import__" in done.stderr
    assert "nvImageCodec" not in done.stderr
    assert not ran.exists() and not (tmp_path / "out").exists()


def test_a_missing_folder_ends_a_training_in_one_line(bundle_root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", "configs/train.yaml"]
        + ["--dataset_dir", str(tmp_path / "nowhere"), "--run_dir", str(tmp_path)],
        cwd=bundle_root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: no training data: ") and done.stderr.count("\n") == 1
