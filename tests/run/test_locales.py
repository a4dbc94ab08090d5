"""Names in any script under a locale that knows ASCII only."""

import json
import os
import subprocess
import sys

import nibabel as nib
import pytest

from tests.helpers.mean_shape import damaged, mean_shape

POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
NAME = "Füße_名前"


def command(bundle_root, *arguments):
    """Run a Python module in the bundle's folder under the POSIX locale."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=bundle_root,
        env={key: value for key, value in os.environ.items() if key != "LANG"} | POSIX,
        capture_output=True,
    )
    assert b"Traceback" not in done.stdout + done.stderr, (done.stdout + done.stderr).decode("utf-8", "replace")
    return done


@pytest.fixture(scope="module")
def run(bundle_root, tmp_path_factory):
    """A run, twice into one folder, of which all names are beyond ASCII; one case cannot be read."""
    folder = tmp_path_factory.mktemp("Größe")
    (folder / "masken").mkdir()
    truth, affine = mean_shape("flipped")
    nib.save(nib.Nifti1Image(damaged(truth, affine), affine), folder / "masken" / f"{NAME}.nii.gz")
    (folder / "masken" / "zerstört.nii.gz").write_bytes(b"broken")
    options = ["--dataset_dir", folder / "masken", "--output_dir", folder / "aus", "--preset", "linear"]
    for _ in range(2):
        done = command(bundle_root, "monai.bundle", "run", "--config_file", "configs/refine.yaml", *options)
        assert done.returncode == 1  # of the case that cannot be read
    return folder


@pytest.mark.slow
def test_a_run_has_all_results_report_and_page(run):
    report = json.loads((run / "aus" / "report.json").read_text(encoding="utf-8"))
    assert {case["case"]: case["status"] for case in report["cases"]} == {NAME: "refined", "zerstört": "failed"}
    files = [f"{NAME}_{what}" for what in ("hippocampus.ply", "hippocampus.stl", "initial.nii.gz", "refined.nii.gz")]
    assert sorted(file.name for file in (run / "aus" / NAME).iterdir()) == files
    assert report["cases"][0]["outputs"]["refined"] == str(run / "aus" / NAME / files[-1])
    page = (run / "aus" / "report.html").read_text(encoding="utf-8")
    assert '"notes":[]' in page and page.count('<script type="text/plain" id="payload-') == 1


@pytest.mark.slow
def test_pictures_and_scores_are_made_of_it(bundle_root, run):
    done = command(bundle_root, "scripts", "report", "--run_dir", run / "aus", "--png")
    assert done.returncode == 0 and (run / "aus" / NAME / f"{NAME}_hippocampus.png").is_file()
    scored = ["--refined", run / "aus", "--label_dir", run / "masken", "--organ", "hippocampus"]
    command(bundle_root, "scripts", "evaluate", *scored, "--output_dir", run / "ev")
    assert f"{NAME},{NAME},hippocampus,refined," in (run / "ev" / "metrics.csv").read_text(encoding="utf-8")
