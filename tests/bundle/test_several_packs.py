"""The `refine` job with several organ packs at once: one run, one report, one page for all of them."""

import csv
import json
import logging

import nibabel as nib
import numpy as np
import pytest

from scripts.cases.errors import UnreadableCase
from scripts.cases.label_names import names_of
from scripts.cases.sources import LabelSource
from scripts.evaluation.evaluate import evaluate
from scripts.organ.several import asked_packs, load_packs
from scripts.report.merge import merge
from scripts.report.rank import rank
from scripts.report.run_folder import Run
from scripts.run.mask_request import MaskRequest
from tests.bundle.test_refine_job import refine
from tests.helpers.foreign import CARET, save
from tests.helpers.publishers import LPS, write_layers
from tests.helpers.two_packs import BEAN, PEA, SPLEEN, garden, write_pack, write_packs

FILES = {"bean": BEAN, "husk": PEA, "spleen": SPLEEN}
ROW = '<Label Key="{}" Red="1" Green="0" Blue="0.5" Alpha="1"><![CDATA[{}]]></Label>'


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    return ",".join(map(str, write_packs(tmp_path_factory.mktemp("packs"))))


def write_case(folder, kind="plain"):
    """A case's folder as TotalSegmentator leaves it; an empty mask is among them."""
    values, affine = garden(kind)
    for name, value in FILES.items():
        save(folder / f"{name}.nii.gz", (values == value).astype(np.uint8), affine)
    save(folder / "colon.nii.gz", np.zeros(values.shape, np.uint8), affine)
    return folder


def read(file):
    return np.asarray(nib.load(file).dataobj)


def report_of(output):
    return json.loads((output / "report.json").read_text())


@pytest.fixture(scope="module")
def done(bundle_root, packs, tmp_path_factory):
    """The masks, and the results of a run of two cases with its page."""
    folder = tmp_path_factory.mktemp("run")
    for case, kind in (("a", "plain"), ("b", "flipped")):
        write_case(folder / "masks" / case, kind)
    refine(bundle_root, folder / "masks", folder / "output", organ=packs, preset="linear")
    return folder / "masks", folder / "output"


def test_every_pack_refines_its_structures_and_all_files_come_back(done):
    masks, output = done
    for case in ("a", "b"):
        before, after = ({f.name: f for f in (place / case).iterdir()} for place in (masks, output / "as_given"))
        assert sorted(before) == sorted(after)
        for name in ("spleen.nii.gz", "colon.nii.gz"):
            assert after[name].read_bytes() == before[name].read_bytes()
        assert (read(after["bean.nii.gz"]) != read(before["bean.nii.gz"])).any()
        refined = read(output / case / f"{case}_refined.nii.gz")
        for name, value in (("bean", 1), ("husk", 2)):
            np.testing.assert_array_equal(refined == value, read(after[f"{name}.nii.gz"]) != 0)


def test_results_say_what_their_values_are_so_that_one_pack_is_enough_to_score_them(done, packs, tmp_path, capsys):
    masks, output = done
    for stage in ("initial", "refined"):
        assert names_of(output / "a" / f"a_{stage}.nii.gz") == {1: ["bean"], 2: ["pea"]}
    for case in ("a", "b"):
        truth = nib.load(masks / case / "husk.nii.gz")
        save(tmp_path / "labels" / f"{case}.nii.gz", read(masks / case / "husk.nii.gz"), truth.affine)
    evaluate(str(tmp_path / "labels"), packs.split(",")[1], str(tmp_path / "eval"), pred_dir=str(output), processes=1)
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert {row["structure"] for row in rows} == {"pea"}
    assert [float(row["dsc"]) for row in rows if row["method"] == "initial"] == [100.0, 100.0]


def test_there_is_one_report_and_one_page(done, packs):
    _, output = done
    report = report_of(output)
    assert report["settings"]["organ"] == packs and report["summary"]["structures"]["kept"] == 0
    for case in report["cases"]:
        assert [part["name"] for part in case["structures"]] == ["bean", "pea"]
        assert case["left_alone"] == ["colon", "spleen"]
    run = Run.open(output)
    assert (run.organ, [one.name for one in run.structures]) == ("beans,peas", ["bean", "pea"])
    page = (output / "report.html").read_text()
    assert "beans,peas: refine" in page and '"pea"' in page


def test_licences_are_named_pack_by_pack(done, packs, tmp_path):
    free, bound = (
        write_pack(tmp_path / name, {value: name}, provenance={"licence": licence})
        for value, name, licence in ((1, "bean", "CC BY 4.0"), (2, "pea", "CC BY-NC 3.0"))
    )
    _, output = done
    (tmp_path / "output").mkdir()
    report = report_of(output)
    report["settings"]["organ"] = f"{free},{bound}"
    (tmp_path / "output" / "report.json").write_text(json.dumps(report))
    lines = Run.open(tmp_path / "output").provenance
    assert lines[:3] == [["organ pack", "bean"], ["licence", "CC BY 4.0"], ["organ pack", "pea"]]
    assert lines[3] == ["licence", "CC BY-NC 3.0"] and "not commercial" in lines[4][1]


def test_structures_are_ranked_over_all_packs(done):
    _, output = done
    table = rank(str(output))
    assert {row.split()[1] for row in table.splitlines()[1:5]} == {"bean", "pea"}


def test_what_was_done_is_skipped_until_a_pack_changes(bundle_root, done, packs, caplog):
    masks, output = done
    before = report_of(output)["cases"]
    with caplog.at_level(logging.INFO):
        refine(bundle_root, masks, output, organ=packs, preset="linear", html=False)
    assert "2 cases done before, skipped" in caplog.text and report_of(output)["cases"] == before
    other = packs.split(",")[::-1]
    with pytest.raises(SystemExit, match="holds the results of another job"):
        refine(bundle_root, masks, output, organ=",".join(other), preset="linear")


def test_parts_and_processes_give_the_same_files(bundle_root, done, packs, tmp_path):
    masks, output = done
    for part in ("1/2", "2/2"):
        refine(bundle_root, masks, tmp_path, organ=packs, preset="linear", html=False, part=part, workers=1)
    merge(str(tmp_path), html=False)
    refine(bundle_root, masks, tmp_path / "two", organ=packs, preset="linear", html=False, workers=2, fine_mm=0.8)
    for folder in (tmp_path, tmp_path / "two"):
        assert [case["status"] for case in report_of(folder)["cases"]] == ["refined"] * 2
        for file in ("a/a_refined.nii.gz", "b/b_pea.stl"):
            assert (folder / file).read_bytes() == (output / file).read_bytes()
    assert names_of(tmp_path / "two" / "a" / "a_fine.nii.gz") == {1: ["bean"], 2: ["pea"]}


@pytest.mark.parametrize("named", [True, False], ids=["names", "source"])
def test_a_label_map_comes_back_with_its_values(bundle_root, packs, named, tmp_path):
    values, affine = garden("oblique")
    rows = "\n".join(ROW.format(value, name) for name, value in FILES.items())
    save(tmp_path / "masks" / "a.nii.gz", values, affine, CARET.format(rows) if named else "")
    refine(
        bundle_root, tmp_path / "masks", tmp_path / "o", organ=packs, preset="linear", html=False,
        source="" if named else "garden",
    )  # fmt: skip
    given = read(tmp_path / "o" / "as_given" / "a.nii.gz")
    assert set(np.unique(given)) == {0, BEAN, PEA, SPLEEN}
    np.testing.assert_array_equal(given == SPLEEN, values == SPLEEN)
    assert (given == BEAN).sum() != (values == BEAN).sum()
    refined = read(tmp_path / "o" / "a" / "a_refined.nii.gz")
    for value, ours in ((BEAN, 1), (PEA, 2)):
        np.testing.assert_array_equal(given == value, refined == ours)


def test_a_label_map_that_does_not_say_whose_its_values_are_is_kept(bundle_root, packs, tmp_path):
    values, affine = garden()
    save(tmp_path / "masks" / "a.nii.gz", np.minimum(values, 2), affine)
    refine(bundle_root, tmp_path / "masks", tmp_path / "o", organ=packs, preset="linear", html=False)
    (case,) = report_of(tmp_path / "o")["cases"]
    assert case["status"] == "kept" and "give --source and one of garden" in case["reason"]


@pytest.mark.parametrize("named", [True, False])
def test_segments_that_overlap_are_told_by_their_names_only(packs, named, tmp_path):
    values, affine = garden()
    layers = np.stack([values == PEA, values == BEAN]).astype(np.uint8)
    places = [("Husk", 1, 0), ("Runner", 1, 1)] if named else [("Segment_1", 1, 0), ("Segment_2", 1, 1)]
    file = write_layers(tmp_path / "a.seg.nrrd", layers, LPS @ affine, places)
    labels = LabelSource.of(load_packs(packs))
    if named:
        ours = labels.read(file).in_pack_values()
        np.testing.assert_array_equal(ours[values == PEA], 2)
        np.testing.assert_array_equal(ours[values == BEAN], 1)
    else:
        with pytest.raises(UnreadableCase, match="cannot be told by their names"):
            labels.read(file)


def test_auto_takes_the_packs_whose_names_are_found_and_says_so(
    bundle_root, done, packs, monkeypatch, tmp_path, caplog
):
    masks, output = done
    others = [write_pack(tmp_path / "plums", {1: "plum"})]
    found = asked_packs([*packs.split(","), *others])
    monkeypatch.setattr("scripts.cases.fitting.asked_packs", lambda organ: found)
    with caplog.at_level(logging.INFO):
        refine(bundle_root, masks, output, organ="auto", preset="linear", html=False)
    said = [record.getMessage() for record in caplog.records]
    start = said.index("no organ pack knows colon, spleen: left alone")
    assert said[start + 1 : start + 3] == ["beans: bean", "peas: pea"]
    assert "2 cases done before, skipped" in caplog.text  # as with the list
    refine(bundle_root, masks / "a" / "husk.nii.gz", tmp_path / "one", organ="auto", preset="linear", html=False)
    assert report_of(tmp_path / "one")["settings"]["organ"] == packs.split(",")[1]


def test_where_no_pack_fits_what_was_found_is_named(bundle_root, tmp_path):
    values, affine = garden()
    save(tmp_path / "masks" / "a" / "plum.nii.gz", values, affine)
    with pytest.raises(SystemExit, match=r"holds plum, none of which is named like a label of"):
        refine(bundle_root, tmp_path / "masks", tmp_path / "o", organ="auto")
    with pytest.raises(SystemExit, match=r"no organ pack knows what is there by its names \(plum\)"):
        refine(bundle_root, tmp_path / "masks" / "a" / "plum.nii.gz", tmp_path / "o", organ="auto")


def test_what_belongs_to_no_pack_or_to_one_only_is_refused(bundle_root, packs, tmp_path):
    with pytest.raises(SystemExit, match="no organ pack 'spline'"):
        refine(bundle_root, tmp_path, tmp_path / "o", organ="liver,spline")
    with pytest.raises(SystemExit, match="has no source 'own': choose one of garden"):
        refine(bundle_root, tmp_path, tmp_path / "o", organ=packs, source="own")
    with pytest.raises(SystemExit, match="leave out --prob_dir"):
        refine(bundle_root, tmp_path, tmp_path / "o", organ=packs, prob_dir=str(tmp_path))


def test_a_folder_that_cannot_be_looked_into_is_said_plainly():
    problem = MaskRequest.of("auto", dataset_dir="x" * 300).problem  # longer than a file's name may be
    assert "xxx" in problem
    for organ in ("auto", ["auto"]):
        assert MaskRequest.of(organ, dataset_dir="none").problem.startswith("none does not exist")
