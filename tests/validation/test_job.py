"""A whole validation with stand-ins for the refinement and the ceiling; both have tests of their own."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.write import copy_volume
from scripts.evidence.head import VoxelHead
from scripts.organ.pack import MODELS
from scripts.simulation.simulate import RECIPES
from scripts.validation import job as module
from tests.helpers.bright_head import linear_net
from tests.helpers.small_pack import write_pack
from tests.helpers.two_balls import STRUCTURES, two_balls
from tests.helpers.volumes import AFFINES


def ceiling_row(case, structure, method, dsc):
    head = {"case": case, "patient": case, "structure": structure, "method": method, "failed": False}
    return head | {"dsc": dsc, "nsd": 90.0, "hd95_mm": 2.0, "assd_mm": 0.5, "cd": 0.25, "cd_floor": 0.125}


def fake_ceiling(files, labels, device, seed):
    names = [file.name.split(".")[0] for file in files]
    structures = [structure.name for structure in labels.pack.structures]
    rows = [ceiling_row(n, s, m, 90 + k) for n in names for s in structures for k, m in enumerate("cw")]
    return rows, ["b, core: alignment failed"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pack = write_pack(tmp_path / "pack", structures=STRUCTURES, split={"test": ["a.nii.gz", "b.nii.gz"]})
    for structure in STRUCTURES:
        (pack / f"{structure['name']}.safetensors").symlink_to(MODELS / "hippocampus" / "hippocampus.safetensors")
    (tmp_path / "labels").mkdir()
    for case, kind in (("a", "straight"), ("b", "oblique"), ("c", "flipped")):
        nib.save(nib.Nifti1Image(two_balls(), AFFINES[kind]), tmp_path / "labels" / f"{case}.nii.gz")

    def fake_refine(job, dataset_dir, output_dir, **options):
        """Repair label 1 wholly, leave label 2; spoil what was clean."""
        assert job == "refine" and options["seed"] == 4
        (tmp_path / "images_given").write_text(str(options.get("image_dir", "none")))
        records = []
        for path in sorted(dataset_dir.iterdir()):
            case = path.name.split(".")[0]
            (output_dir / case).mkdir(parents=True)
            copy_volume(path, output_dir / case / f"{case}_initial.nii.gz")
            image = nib.load(path)
            values = np.asarray(image.dataobj).copy()
            truth = np.asarray(nib.load(tmp_path / "out" / "true" / path.name).dataobj)
            values[values == 1] = 0
            values[truth == 1] = 1
            if dataset_dir.name == "clean":
                values[16:18][values[16:18] == 1] = 0
            nib.save(nib.Nifti1Image(values, image.affine), output_dir / case / f"{case}_refined.nii.gz")
            status = "kept" if case == "b" and dataset_dir.name == "steps" else "refined"
            records.append({"case": case, "status": status, "reason": "too odd", "warnings": []})
        (output_dir / "report.json").write_text(json.dumps({"cases": records}))

    monkeypatch.setattr(module, "run_job", fake_refine)
    monkeypatch.setattr(module, "score_ceiling", fake_ceiling)
    return tmp_path


def run(folder, **options):
    fixed = {"seed": 4, "device": "cpu", "resamples": 200, "processes": 1}
    return module.validate(str(folder / "pack"), str(folder / "labels"), str(folder / "out"), **fixed, **options)


def cells(page: str, title: str) -> dict[str, list[str]]:
    """Return the rows of the table under a heading, by their first cell."""
    part = page.split(f"### {title}\n")[1].split("###")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:2] == "| "]
    return {row[0]: row for row in rows}


def test_page_and_tables(folder):
    page = (folder / "out" / "validate.md").read_text() if run(folder) else ""
    shell, core, both = (cells(page, title) for title in ("shell", "core", "all structures"))
    assert list(shell)[2:] == list(RECIPES)
    assert shell["missing"][1] == "2" and both["missing"][1] == "4"
    assert shell["missing"][2].endswith("→ 100.0") and "→ 0.00 (-100 %)" in shell["missing"][4]
    before = core["missing"][2].split(" → ")
    assert before[0] == before[1] and core["missing"][6].startswith("+0.00")
    assert shell["clean"][7] == "100.0" and core["clean"][7] == "0.0" and both["clean"][7] == "50.0"
    assert float(shell["clean"][6].split()[0]) < -5
    assert float(both["islands"][8]) > 0.5 and both["clean"][8] == "+0.00"  # the largest component alone
    assert "| shell | c | 2 | 90.0 | 90.0 | 2.00 | 0.50 | 0.250 | 0.125 |" in page
    assert "- b, core: alignment failed" in page and "- steps, b: too odd" in page
    assert "--split test --cases 0" in page and "--severity 1.0 --seed 4" in page and "2 cases: a, b." in page
    assert "Not a validation" not in page and "inf" not in page and "nan" not in page

    with open(folder / "out" / "refinement.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["kind"] for line in lines} == set(RECIPES)
    with open(folder / "out" / "ceiling.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 2
    for kind in RECIPES:
        assert (folder / "out" / "scores" / kind / "metrics.csv").is_file()


def test_images_are_given_to_a_pack_that_can_read_them(folder):
    images = folder / "images"
    with pytest.raises(ValueError, match="has no voxel head that could read"):
        run(folder, kinds="missing", image_dir=str(images))
    VoxelHead({one["name"]: linear_net("ratio_0", 4.0) for one in STRUCTURES}, 1.0).save(
        folder / "pack" / "evidence.safetensors"
    )
    page = (folder / "out" / "validate.md").read_text() if run(folder, kinds="missing", image_dir=str(images)) else ""
    assert (folder / "images_given").read_text() == str(images.resolve())
    assert "default preset, with the images." in page and f"--image_dir {images}" in page
    page = (folder / "out" / "validate.md").read_text() if run(folder, kinds="missing") else ""
    assert (folder / "images_given").read_text() == "none" and "from the masks alone." in page


def test_trained_cases_are_no_validation(folder):
    settings = yaml.safe_load((folder / "pack" / "organ.yaml").read_text())
    settings["split"]["train"] = ["c.nii.gz"]
    (folder / "pack" / "organ.yaml").write_text(yaml.safe_dump(settings))
    page = (folder / "out" / "validate.md").read_text() if run(folder, split="", kinds="missing") else ""
    assert "**Not a validation:** the prior was trained on c." in page and "3 cases: a, b, c." in page


def test_a_pack_without_priors_is_refused(folder):
    (folder / "pack" / "core.safetensors").unlink()
    with pytest.raises(SystemExit, match="no shape prior .*core.safetensors; train one"):
        run(folder)
    assert not (folder / "out").exists()


def test_a_structure_that_is_absent_is_not_counted_and_leftovers_are_not_refined(folder):
    file = folder / "labels" / "b.nii.gz"
    image = nib.load(file)
    values = np.asarray(image.dataobj).copy()
    values[values == 2] = 0
    nib.save(nib.Nifti1Image(values, image.affine), file)
    left = folder / "out" / "simulated" / "islands" / "earlier.nii.gz"
    left.parent.mkdir(parents=True)
    copy_volume(folder / "labels" / "a.nii.gz", left)
    page = (folder / "out" / "validate.md").read_text() if run(folder, kinds="missing,islands") else ""
    shell, core = (cells(page, title) for title in ("shell", "core"))
    assert (shell["islands"][1], shell["missing"][1]) == ("2", "2")
    assert core["missing"][1] == "1"
    assert not left.exists() and "earlier" not in page
