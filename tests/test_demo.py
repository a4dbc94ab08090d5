"""The demo with stand-ins for the two jobs; the jobs themselves have tests of their own."""

import nibabel as nib
import numpy as np
import pytest

from scripts import demo as module
from scripts.cases.write import copy_volume


def fake_job(job, dataset_dir, output_dir, **options):
    """Segment an ellipsoid in every box, or give the undamaged mask back."""
    for path in sorted(dataset_dir.iterdir()):
        case = path.name[: -len(".nii.gz")]
        folder = output_dir / case
        folder.mkdir(parents=True)
        if job == "inference":
            image = nib.load(path)
            axes = np.ogrid[tuple(slice(0, n) for n in image.shape)]
            inside = sum(((a - n / 2) / r) ** 2 for a, n, r in zip(axes, image.shape, (6, 18, 7), strict=True)) <= 1
            labels = (inside * np.where(axes[1] > 25, 1, 2)).astype(np.uint8)
            nib.save(nib.Nifti1Image(labels, image.affine), folder / f"{case}_initial.nii.gz")
        else:
            copy_volume(path, folder / f"{case}_initial.nii.gz")
            truth = output_dir.parent / "segmented" / case / f"{case}_initial.nii.gz"
            copy_volume(truth, folder / f"{case}_refined.nii.gz")


def test_demo_damages_repairs_and_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "run_job", fake_job)
    module.demo(str(tmp_path / "demo"), seed=2)
    table = (tmp_path / "demo" / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "MNI152" in line]
    assert [row[1] for row in rows] == ["undamaged", "damaged", "repaired"] * 2
    for undamaged, damaged, repaired in (rows[:3], rows[3:]):
        assert int(damaged[2]) > int(undamaged[2]) == 1 and int(damaged[3]) == 1
        assert float(damaged[5]) < 95 and repaired[5:9] == ["100.0", "100.0", "0.00", "0.00"]
        assert float(repaired[9]) > 0.1
    assert (tmp_path / "demo" / "before_after.png").stat().st_size > 50_000


def test_boxes_hold_the_template_at_1_mm(tmp_path):
    module.cut_boxes(tmp_path)
    left, right = (nib.load(tmp_path / f"{case}.nii.gz") for case in module.BOXES)
    for image, centre in ((left, (-27, -22, -14)), (right, (27, -22, -14))):
        assert image.shape == module.BOX_MM and image.header.get_zooms() == (1, 1, 1)
        middle = image.affine @ (*(np.array(module.BOX_MM) / 2), 1)
        np.testing.assert_allclose(middle[:3], centre, atol=1.0)
    values = np.asarray(left.dataobj)
    assert values.dtype == np.int16 and values.min() >= 0 and 300 < np.median(values) < 1000


def test_table_leaves_missing_cells_empty():
    table = module.as_table([{"a": "1"}, {"a": "2", "long name": "3"}])
    assert table.splitlines() == ["| a | long name |", "|---|-----------|", "| 1 |           |", "| 2 | 3         |"]


def test_run_job_stops_where_the_job_does(tmp_path):
    with pytest.raises(SystemExit, match="no organ pack 'spline'"):
        module.run_job("refine", organ="spline", dataset_dir=tmp_path, output_dir=tmp_path / "out", device="cpu")
