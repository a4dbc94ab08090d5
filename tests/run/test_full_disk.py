"""A disk that fills up while a run writes to it: a small file system of its own, where mounting one is permitted."""

import subprocess

import nibabel as nib
import numpy as np
import pytest

from scripts.report.run_report import read_report
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import AFFINES, save

CASES = 12


@pytest.fixture
def small_disk(tmp_path):
    """A folder that holds 400 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def write_masks(folder):
    """Masks that do not compress, of about 15 KB each."""
    rng = np.random.default_rng(0)
    for number in range(CASES):
        affine = list(AFFINES.values())[number % len(AFFINES)]
        values = rng.integers(1, 3, (48, 48, 32)).astype(np.uint8)
        values[:2, :2, :2] = 0
        values[0, 0, 0] = 1  # an island
        save(folder / f"case_{number:02d}.nii.gz", values, affine)


def test_a_disk_that_fills_up_fails_the_rest_and_the_run_can_be_done_again(tmp_path, small_disk, capfd):
    write_masks(tmp_path / "masks")
    run_refine(tmp_path / "masks", tmp_path / "whole")
    output = small_disk / "out"
    with pytest.raises(SystemExit) as stopped:
        run_refine(tmp_path / "masks", output).finish()
    assert stopped.value.code == 1 or "cannot be written" in str(stopped.value)
    printed = "".join(capfd.readouterr())
    assert "No space left on device" in printed and "Traceback" not in printed
    cases = read_report(output)["cases"]
    assert "refined" in {case["status"] for case in cases} and "failed" in {case["status"] for case in cases}
    for case in cases:
        assert case["status"] in ("refined", "failed")
        for file in case["outputs"].values():
            whole = tmp_path / "whole" / case["case"]
            if case["status"] == "refined" and file.endswith(".nii.gz"):
                np.testing.assert_array_equal(nib.load(file).dataobj, nib.load(whole / file.split("/")[-1]).dataobj)
    assert not [file for file in output.rglob(".*-*")]
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    run_refine(tmp_path / "masks", output).finish()
    for file in (tmp_path / "whole").rglob("*.nii.gz"):
        assert (output / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()
