"""Options of a command line and of a host: none is evaluated."""

import json
import os
import subprocess
import sys

import pytest

from scripts.run.options import Offered, check_command_line


def test_offered_options_are_copied_by_a_host_but_have_no_names_to_write_back():
    shown = {"model_filename": ["model.pt"]}
    shown.update(Offered(organ=["hippocampus"], refine=True))
    assert shown == {"model_filename": ["model.pt"], "organ": ["hippocampus"], "refine": True}
    assert list(Offered(organ=[]).keys()) == [] and json.dumps(shown)


@pytest.mark.parametrize("value", ["$print(1)", "@seed", "%a.yaml#b", "{'_target_': 'os.getcwd'}", "['$1']", "'$1'"])
@pytest.mark.parametrize("name", ["--dataset_dir", "--organ", "--source"])
def test_paths_and_names_that_would_be_evaluated_are_refused(name, value):
    for arguments in ([name, value], [f"{name}={value}"]):
        with pytest.raises(SystemExit, match=f"^Error: {name} .*write ./ before it"):
            check_command_line(["run", *arguments])


def test_other_options_are_left_alone():
    check_command_line(["run", "--organ", "./$odd", "--dataset_dir=a$b", "--device", "$torch.device('cpu')", "--html"])
    check_command_line([])


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
    assert not ran.exists() and not (tmp_path / "out").exists()
