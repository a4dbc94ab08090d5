"""Label maps of other models: read as they are, translated, and given back as they came."""

import csv
import json
import tracemalloc

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from scripts.cases.checks import CheckMaskd, KeepInitiald
from scripts.cases.errors import UnreadableCase, UnrefinableCase
from scripts.cases.find import CaseDataset, find_cases
from scripts.cases.given import OTHER
from scripts.cases.label_names import names_of
from scripts.cases.read import read_labels
from scripts.cases.sources import LabelSource, ReadMaskd
from scripts.cases.writer import CaseWriter
from scripts.evaluation.evaluate import evaluate
from scripts.organ.pack import OrganError, OrganPack
from scripts.organ.several import union
from scripts.report.run_report import RunReport
from scripts.run.runner import CaseEvaluator
from scripts.shapes.label_surface import list_sources, read_mask, surface_key
from scripts.shapes.samples import SampleSettings
from tests.helpers import pairs
from tests.helpers.foreign import (
    CARET,
    GRIDS,
    relabelled,
    save,
    truth,
    write_masks,
    write_multilabel,
    write_nnunet,
    write_pack,
)
from tests.helpers.publishers import LPS, frame_lps, segments, write_layers, write_meta_image, write_nrrd

OURS = np.where(truth() == 9, OTHER, truth().astype(int))
VALUES = {1: 3, 2: 7, 9: 1}  # the pack's → another model's
NAMES = {"background": 0, "Spleen": 1, "Esophagus": 3, "HEART": 7}
LAYOUTS = {
    "nnU-Net": (lambda f: write_nnunet(f, VALUES, NAMES), ""),
    "nnU-Net 1": (lambda f: write_nnunet(f, VALUES, {str(v): n for n, v in NAMES.items()}), ""),
    "masks": (write_masks, ""),
    "masks in a folder": (lambda f: write_masks(f, "segmentations"), ""),
    "names in the header": (write_multilabel, ""),
    "named source": (lambda f: write_multilabel(f, named=False), "totalsegmentator"),
}
EVERY = pytest.mark.parametrize("layout", LAYOUTS)


class Carve(MapTransform):
    """A stand-in for the refinement: takes a layer off the heart and grows the oesophagus by one, into what is free."""

    def __call__(self, data):
        mask = torch.as_tensor(data["pred"])[0].numpy().copy()
        grown = np.zeros(mask.shape, bool)
        grown[1:7, 1:12, 1:10] = True
        mask[grown & (mask == 0)] = 1
        mask[13] = np.where(mask[13] == 2, 0, mask[13])
        return {**data, "pred": MetaTensor(torch.from_numpy(mask[None]), meta=data["pred"].meta), "pred_shapes": []}


CARVED = Carve("pred")({"pred": MetaTensor(torch.from_numpy(OURS[None]))})["pred"][0].numpy()


def made(layout, folder):
    make, source = LAYOUTS[layout]
    return make(folder / "given"), LabelSource.of(write_pack(folder / "pack"), source)


class Fail(MapTransform):
    """A chain that can do nothing with a mask."""

    def __call__(self, data):
        raise UnrefinableCase("nothing can be done")


def refine(folder, labels, output, chain=None, fix_sides=False):
    """The refine job with a stand-in for the chain."""
    report = RunReport(output, "refine", {"organ": str(labels.pack.folder)})
    evaluator = CaseEvaluator(
        "cpu",
        CaseDataset(folder, find=labels.find),
        torch.nn.Identity(),
        Compose([ReadMaskd("pred", labels, fix_sides)]),
        Compose([KeepInitiald("pred"), CheckMaskd("pred", list(labels.pack.labels)), chain or Carve("pred")]),
        CaseWriter(output),
        report,
    )
    evaluator.run()
    return json.loads((output / "report.json").read_text())["cases"]


def values_of(path):
    return np.asarray(nib.load(path).dataobj)


@EVERY
def test_every_layout_is_read_with_the_pack_s_values(layout, tmp_path):
    folder, labels = made(layout, tmp_path)
    cases = find_cases(folder, "pred", find=labels.find)
    assert [case["case"] for case in cases] == list(GRIDS) and not any(case["reason"] for case in cases)
    for case in cases:
        given = labels.read(case["pred"])
        np.testing.assert_array_equal(given.in_pack_values(), OURS if "masks" not in layout else OURS * (OURS != OTHER))
        np.testing.assert_allclose(given.affine, GRIDS[case["case"]], atol=1e-5)
        assert {other.lower() for other in given.others} <= {"spleen", "liver", "1"} and given.others
        one = find_cases(case["pred"], "pred", find=labels.find)  # one case alone
        assert [c["case"] for c in one] == [case["case"]]


@EVERY
def test_refined_masks_come_back_as_they_were_given(layout, tmp_path):
    folder, labels = made(layout, tmp_path)
    records = refine(folder, labels, tmp_path / "out")
    for record in records:
        case = record["case"]
        assert record["status"] == "refined" and record["left_alone"]
        refined = np.maximum(CARVED, 0) if "masks" not in layout else values_of(record["outputs"]["refined"])
        np.testing.assert_array_equal(values_of(record["outputs"]["refined"]), refined)
        np.testing.assert_array_equal(values_of(record["outputs"]["initial"]), np.maximum(OURS, 0))
        assert not nib.load(record["outputs"]["refined"]).header.extensions
        back = tmp_path / "out" / "as_given"
        if "masks" in layout:
            assert sorted(p.name for p in (back / case).iterdir()) == ["esophagus.nii.gz", "heart.nii.gz"]
            for name, value in (("esophagus", 1), ("heart", 2)):
                np.testing.assert_array_equal(values_of(back / case / f"{name}.nii.gz"), refined == value)
            continue
        before, after = nib.load(folder / f"{case}.nii.gz"), nib.load(back / f"{case}.nii.gz")
        theirs = {1: 15, 2: 51, 9: 1} if labels.name or layout == "names in the header" else VALUES
        expected = np.select([CARVED == 1, CARVED == 2, CARVED == OTHER], [theirs[1], theirs[2], theirs[9]], 0)
        np.testing.assert_array_equal(np.asarray(after.dataobj), expected)
        assert after.get_data_dtype() == before.get_data_dtype() and (after.affine == before.affine).all()
        assert len(after.header.extensions) == len(before.header.extensions)


@EVERY
def test_every_layout_is_scored(layout, tmp_path):
    """Against truth in the pack's own values, and in the other model's; the run's outputs have the pack's."""
    folder, labels = made(layout, tmp_path)
    for case, affine in GRIDS.items():
        save(tmp_path / "truth" / f"{case}.nii.gz", np.where(truth() == 9, 0, truth()), affine)
    refine(folder, labels, tmp_path / "out")
    options = {"processes": 1, "shape_metrics": False, "postprocessing": "none", "source": labels.name}
    pack = str(labels.pack.folder)
    evaluate(
        str(tmp_path / "truth"), pack, str(tmp_path / "one"), given=str(folder), run=str(tmp_path / "out"), **options
    )
    evaluate(
        str(folder),
        pack,
        str(tmp_path / "two"),
        run=f"{tmp_path / 'out'}::initial",
        label_source=labels.name,
        **{**options, "source": ""},
    )
    for table, perfect in (("one", {"given"}), ("two", {"run"})):
        rows = list(csv.DictReader((tmp_path / table / "metrics.csv").open()))
        assert len(rows) == (8 if table == "one" else 4)
        for row in rows:
            assert (float(row["dsc"]) == 100) == (row["method"] in perfect), row


@EVERY
def test_every_layout_is_learned_from(layout, tmp_path):
    folder, labels = made(layout, tmp_path)
    files = labels.find(folder)
    sources = list_sources(files, labels.pack.structures, labels)
    assert [source.name for source in sources] == ["a oesophagus", "a heart", "b oesophagus", "b heart"]
    for source in sources:
        mask, affine = read_mask(source, 10)
        np.testing.assert_array_equal(mask, truth() == source.structure.labels[0])
        np.testing.assert_allclose(affine, GRIDS[source.name[0]], atol=1e-5)
    keys = {surface_key(source, SampleSettings()) for source in sources}
    assert len(keys) == 4


def test_structures_that_a_source_lacks_are_not_scored(tmp_path, caplog):
    """The truth's model knows the oesophagus, 5, only."""
    pack = write_pack(tmp_path / "pack")
    save(tmp_path / "truth" / "a.nii.gz", relabelled({1: 5, 9: 1}), GRIDS["a"])
    save(tmp_path / "masks" / "a.nii.gz", np.where(truth() == 9, 0, truth()), GRIDS["a"])
    options = {"processes": 1, "shape_metrics": False, "postprocessing": "none", "label_source": "btcv"}
    evaluate(str(tmp_path / "truth"), str(pack), str(tmp_path / "eval"), ours=str(tmp_path / "masks"), **options)
    (row,) = csv.DictReader((tmp_path / "eval" / "metrics.csv").open())
    assert row["structure"] == "oesophagus" and float(row["dsc"]) == 100 and "no such label: heart" in caplog.text


def test_masks_that_overlap_keep_what_was_not_changed(tmp_path):
    folder, labels = made("masks", tmp_path)
    both = (truth() == 1) | (truth() == 2)
    save(folder / "a" / "heart.nii.gz", both.astype(np.uint8) * 255, GRIDS["a"])
    refine(folder, labels, tmp_path / "out")
    heart = values_of(tmp_path / "out" / "as_given" / "a" / "heart.nii.gz")
    np.testing.assert_array_equal(heart > 0, both & (CARVED != 0))
    assert set(np.unique(heart)) == {0, 255}


def test_several_values_for_one_label_grow_from_the_nearest(tmp_path):
    """Left and right of theirs are one label of ours."""
    sources = {"other": {4: "heart", 6: "heart", 15: "oesophagus"}}
    labels = LabelSource.of(write_pack(tmp_path, sources=sources), "other")
    theirs = np.zeros((12, 8, 8), np.int16)
    theirs[2:5, 2:6, 2:6], theirs[5:9, 2:6, 2:6] = 4, 6
    given = labels.read(save(tmp_path / "a.nii.gz", theirs, GRIDS["b"]))
    before = given.in_pack_values()
    assert set(np.unique(before)) == {0, 2}
    after = before.copy()
    after[1:10, 1:7, 2:6] = 2
    back = given.in_given_values(before, after)
    assert (back[1:5, 1:7, 2:6] == 4).all() and (back[5:10, 1:7, 2:6] == 6).all()
    np.testing.assert_array_equal(back[theirs > 0], theirs[theirs > 0])


def test_a_label_that_had_no_voxel_takes_its_value(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path, sources={"other": {4: "heart", 15: "oesophagus"}}), "other")
    theirs = np.zeros((12, 8, 8), np.int16)
    theirs[2:9, 2:6, 2:6] = 4
    given = labels.read(save(tmp_path / "a.nii.gz", theirs, GRIDS["b"]))
    before = given.in_pack_values()
    after = np.where(np.arange(12)[:, None, None] > 5, before // 2, before)  # the oesophagus is 1, the heart 2
    expected = np.where(np.arange(12)[:, None, None] > 5, np.where(theirs > 0, 15, 0), theirs)
    np.testing.assert_array_equal(given.in_given_values(before, after), expected)


@pytest.mark.parametrize(("value", "writable"), [(100, {1, 2}), (200, {2})])
def test_a_label_of_no_voxel_is_written_where_any_data_type_holds_its_value(value, writable, tmp_path):
    labels = LabelSource.of(write_pack(tmp_path, sources={"other": {4: "heart", value: "oesophagus"}}), "other")
    theirs = np.full((12, 8, 8), 4, np.uint8)
    given = labels.read(save(tmp_path / "a.nii.gz", theirs, GRIDS["b"]))
    assert given.writable_labels == writable
    assert (given.in_given_values(given.in_pack_values(), np.ones((12, 8, 8), np.uint8)) == value).all()


def test_values_are_not_the_pack_s_own_where_the_other_side_has_another(tmp_path):
    sides = {1: "left_lung", 2: "right_lung"}
    structures = [{"name": name, "labels": [value]} for value, name in sides.items()]
    sources = {"other": {1: "left_lung", 7: "right_lung"}, "same": {1: "left_lung", 2: "right_lung"}}
    pack = write_pack(tmp_path, labels=sides, structures=structures, sources=sources)
    file = save(tmp_path / "a.nii.gz", np.full((12, 8, 8), 1, np.uint8), GRIDS["b"])
    assert not LabelSource.of(pack, "other").read(file).is_own and LabelSource.of(pack, "same").read(file).is_own


def test_a_mask_that_was_empty_is_written_as_a_binary_one(tmp_path):
    folder, labels = made("masks", tmp_path)
    save(folder / "a" / "esophagus.nii.gz", np.zeros_like(truth(), np.uint8), GRIDS["a"])
    refine(folder, labels, tmp_path / "out")
    oesophagus = values_of(tmp_path / "out" / "as_given" / "a" / "esophagus.nii.gz")
    refined = values_of(tmp_path / "out" / "a" / "a_refined.nii.gz")
    assert (refined == 1).any()
    np.testing.assert_array_equal(oesophagus, refined == 1)


def test_own_label_maps_are_passed_as_before(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    ours = np.where(truth() == 9, 0, truth())
    save(tmp_path / "masks" / "a.nii.gz", ours, GRIDS["a"])
    (record,) = refine(tmp_path / "masks", labels, tmp_path / "out")
    assert record["status"] == "refined" and record["left_alone"] == [] and not (tmp_path / "out" / "as_given").exists()
    initial = (tmp_path / "out" / "a" / "a_initial.nii.gz").read_bytes()
    assert initial == (tmp_path / "masks" / "a.nii.gz").read_bytes()


def test_values_nobody_knows_are_kept_and_said(tmp_path):
    """Without names, other values may mean that it is another organ's mask; `own` says that they do not."""
    pack = write_pack(tmp_path / "pack")
    save(tmp_path / "masks" / "a.nii.gz", truth(), GRIDS["a"])
    (record,) = refine(tmp_path / "masks", LabelSource.of(pack), tmp_path / "one")
    assert record["status"] == "kept" and "holds the labels [9]" in record["reason"] and "--source" in record["reason"]
    (record,) = refine(tmp_path / "masks", LabelSource.of(pack, "own"), tmp_path / "two")
    assert record["status"] == "refined" and record["left_alone"] == ["9"]
    assert (values_of(record["outputs"]["as_given"])[truth() == 9] == 9).all()


def test_a_case_that_is_kept_is_given_back_unchanged(tmp_path):
    folder, labels = made("nnU-Net", tmp_path)

    class Fail(MapTransform):
        def __call__(self, data):
            raise UnrefinableCase("no")

    records = refine(folder, labels, tmp_path / "out", Fail("pred"))
    assert [r["status"] for r in records] == ["kept", "kept"]
    for case in GRIDS:
        np.testing.assert_array_equal(values_of(tmp_path / "out" / "as_given" / f"{case}.nii.gz"), relabelled(VALUES))


def test_names_that_fit_nothing_are_refused(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    folder = write_nnunet(tmp_path / "given", {1: 1, 2: 2}, {"background": 0, "spleen": 1, "liver": 2})
    with pytest.raises(UnrefinableCase, match="spleen, liver.*--source own"):
        labels.read(folder / "a.nii.gz")
    assert LabelSource.of(labels.pack, "own").read(folder / "a.nii.gz").is_own
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(UnrefinableCase, match="dataset.json lists no labels"):
        labels.read(folder / "a.nii.gz")
    broken = write_masks(tmp_path / "masks") / "a" / "heart.nii.gz"
    save(broken, truth(), GRIDS["a"])
    with pytest.raises(UnrefinableCase, match="no binary mask"):
        labels.read(broken.parent)
    save(broken, np.ones((3, 3, 3), np.uint8), GRIDS["a"])
    with pytest.raises(UnrefinableCase, match="not on the grid"):
        labels.read(broken.parent)


def test_results_of_several_packs_are_not_taken_for_another_pack_s(tmp_path):
    rows = "".join(f'<Label Key="{value}">{name}</Label>' for value, name in ((1, "liver"), (2, "kidney")))
    save(tmp_path / "a" / "a_refined.nii.gz", truth() % 9, GRIDS["a"], CARET.format(rows))
    with pytest.raises(UnrefinableCase, match=r"none of its labels \(liver, kidney\) is one of 'chest'"):
        LabelSource.of(write_pack(tmp_path / "chest")).read(tmp_path / "a" / "a_refined.nii.gz")


def test_results_of_one_pack_are_not_taken_for_several_packs(tmp_path):
    save(tmp_path / "a" / "a_refined.nii.gz", truth() % 9, GRIDS["a"])
    packs = union([OrganPack.load("liver"), OrganPack.load(write_pack(tmp_path / "chest"))])
    with pytest.raises(UnrefinableCase, match="has no names of labels"):
        LabelSource.of(packs).read(tmp_path / "a" / "a_refined.nii.gz")


def test_regions_take_their_most_specific_name(tmp_path):
    regions = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}
    folder = write_nnunet(tmp_path, {1: 1, 2: 2}, regions)
    assert names_of(folder / "a.nii.gz") == {1: ["kidney"], 2: ["tumor", "masses", "kidney"], 3: ["masses", "kidney"]}
    labels = {1: "kidney", 2: "tumour"}
    structures = [{"name": "kidney", "labels": [1, 2]}]
    pack = write_pack(tmp_path / "p", labels=labels, structures=structures, sources={"kits": {"tumor": "tumour"}})
    source = LabelSource.of(pack)
    assert source.read(folder / "a.nii.gz").meaning == {1: 1, 2: 2, 3: 1}


def test_dataset_json_is_found_beside_a_labels_folder(tmp_path):
    write_nnunet(tmp_path / "task" / "labelsTr", VALUES, NAMES)
    (tmp_path / "task" / "labelsTr" / "dataset.json").rename(tmp_path / "task" / "dataset.json")
    assert names_of(tmp_path / "task" / "labelsTr" / "a.nii.gz")[3] == ["Esophagus"]
    assert names_of(save(tmp_path / "task" / "preds" / "a.nii.gz", truth(), GRIDS["a"])) == {}
    (tmp_path / "linked.nii.gz").symlink_to(tmp_path / "task" / "labelsTr" / "a.nii.gz")
    assert names_of(tmp_path / "linked.nii.gz")[3] == ["Esophagus"]


def test_a_mask_loses_no_voxel_that_was_removed_from_another(tmp_path):
    """Heart and oesophagus overlap, the heart comes first and has the voxels: the oesophagus keeps them."""
    folder, labels = made("masks", tmp_path)
    both = (truth() == 1) | (truth() == 2)
    save(folder / "a" / "oesophagus.nii.gz", both.astype(np.uint8), GRIDS["a"])
    refine(folder, labels, tmp_path / "out")
    heart, oesophagus = (
        values_of(tmp_path / "out" / "as_given" / "a" / f"{name}.nii.gz") > 0 for name in ("heart", "oesophagus")
    )
    removed = (truth() == 2) & ~heart
    assert removed.sum() > 10 and oesophagus[removed].all()


def test_a_structure_can_be_meant(tmp_path):
    """One side of a label; its voxels are told apart by where they are."""
    structures = [
        {"name": f"lung_{s}", "labels": [1], "side": s, "prior": "lung.safetensors"} for s in ("left", "right")
    ]
    labels = LabelSource.of(write_pack(tmp_path, labels={1: "lung"}, structures=structures, sources={}))
    assert labels.label_of("Lung Left") == labels.label_of("lung") == 1 and labels.label_of("heart") is None


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"x": {1: "spleen"}}, "sources: x: 1: unknown label 'spleen': choose one of oesophagus, heart"),
        ({"own": {1: "heart"}}, "sources: 'own' means the pack's own values"),
        ({"x": {"a": "heart"}, "y": {"a": "oesophagus"}}, "mean both 'heart' and 'oesophagus' by 'a'"),
    ],
)
def test_sources_that_make_no_sense_are_refused(tmp_path, sources, message):
    with pytest.raises(OrganError, match=message):
        OrganPack.load(write_pack(tmp_path, sources=sources))


def test_an_unknown_source_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(OrganError, match="no source 'kits': choose one of btcv, totalsegmentator, own"):
        LabelSource.of(write_pack(tmp_path), "kits")


def test_nnunet_s_images_are_found_by_their_names(tmp_path):
    for name in ("a", "b_2"):
        save(tmp_path / "masks" / f"{name}.nii.gz", truth(), GRIDS["a"])
        save(tmp_path / "images" / f"{name}_0000.nii.gz", truth(), GRIDS["a"])
    cases = find_cases(tmp_path / "masks", "pred", {"image": tmp_path / "images"})
    assert [case["image"] for case in cases] == [str(tmp_path / "images" / f"{n}_0000.nii.gz") for n in ("a", "b_2")]


def test_the_packs_of_the_bundle_read_the_models_that_they_name():
    thorax = LabelSource.of("thorax")
    named = {name: thorax.label_of(name) for name in ("esophagus", "heart", "trachea", "aorta")}
    assert {thorax.pack.labels[label] for label in named.values()} == set(thorax.pack.labels.values())
    hippocampus = LabelSource.of("hippocampus")
    assert [hippocampus.label_of(name) for name in ("Anterior", "Posterior")] == [1, 2]


@pytest.mark.parametrize("code", [0, 2, 6, 18, 22, 30, 32, 42])
@pytest.mark.parametrize(
    "content", [b"\xff\xfe no text at all..", b"<a><LabelTable><Label Key='x'>a</Label></LabelTable></a>"]
)
def test_header_extensions_that_cannot_be_read_do_no_harm(tmp_path, code, content):
    labels = LabelSource.of(write_pack(tmp_path / "pack"), "")
    path = tmp_path / "masks" / "a.nii"
    path.parent.mkdir()
    mask = np.maximum(OURS, 0)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), path)
    whole = path.read_bytes()
    body = content + bytes(-(len(content) + 8) % 16)
    extension = np.array([len(body) + 8, code], "<i4").tobytes() + body
    header = bytearray(whole[:348] + b"\1\0\0\0" + extension)
    header[108:112] = np.float32(len(header)).tobytes()  # vox_offset
    path.write_bytes(bytes(header) + whole[352:])
    (case,) = refine(path.parent, labels, tmp_path / "out")
    assert case["status"] == "refined", case["reason"]
    after = np.asarray(nib.load(tmp_path / "out" / "a" / "a_refined.nii.gz").dataobj)
    np.testing.assert_array_equal(after, Carve("pred")({"pred": MetaTensor(torch.from_numpy(mask[None]))})["pred"][0])


@pytest.mark.parametrize("source", ["", "own"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_negative_values_come_back_as_they_were(tmp_path, dtype, source):
    labels = LabelSource.of(write_pack(tmp_path / "pack"), source)
    values = np.where(truth() == 9, -1000, truth().astype(int)).astype(dtype)
    save(tmp_path / "masks" / "a.nii.gz", values, GRIDS["b"])
    (record,) = refine(tmp_path / "masks", labels, tmp_path / "out")
    assert record["status"] == "refined"
    back = record["outputs"].get("as_given", record["outputs"]["refined"])
    expected = np.where(truth() == 9, -1000, CARVED)
    np.testing.assert_array_equal(values_of(back), expected)
    assert nib.load(back).get_data_dtype() == dtype


def test_huge_values_of_other_organs_are_left_alone(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"), "own")
    values = np.where(truth() == 9, 2**31 - 1, truth().astype(int)).astype(np.int32)
    values[0, 0, 0] = -(2**31)
    save(tmp_path / "masks" / "a.nii.gz", values, GRIDS["b"])
    (record,) = refine(tmp_path / "masks", labels, tmp_path / "out")
    assert record["status"] == "refined" and record["left_alone"] == [str(-(2**31)), str(2**31 - 1)]
    expected = np.where(np.isin(values, (0, 1, 2)), np.maximum(CARVED, 0), values)
    np.testing.assert_array_equal(values_of(record["outputs"]["as_given"]), expected)


@pytest.mark.parametrize("highest", [5_000, 2**31 - 1])
def test_a_huge_label_beside_dataset_json_takes_no_table_up_to_it(tmp_path, highest):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    values = np.select([truth() == v for v in (1, 2, 9)], [highest, 7, -5], 0).astype(np.int32)
    path = save(tmp_path / "masks" / "a.nii.gz", values, GRIDS["b"])
    named = {"background": 0, "oesophagus": highest, "heart": 7, "unused": 2**40}
    (path.parent / "dataset.json").write_text(json.dumps({"labels": named}))
    given = labels.read(path)
    tracemalloc.start()
    ours = given.in_pack_values()
    assert tracemalloc.get_traced_memory()[1] < 100 * values.nbytes
    tracemalloc.stop()
    np.testing.assert_array_equal(ours, np.where(truth() == 9, OTHER, truth().astype(int)))
    np.testing.assert_array_equal(given.in_given_values(ours, ours), values)


@pytest.mark.parametrize("labels", [[], 5, {"a": 1e400}, {"a": {}}, {"a": None}, {"a": [[1]]}, {"a": "x", "x": "b"}])
def test_a_dataset_json_with_odd_labels_is_named_with_the_remedy(tmp_path, labels):
    path = save(tmp_path / "masks" / "a.nii.gz", truth(), GRIDS["b"])
    (path.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(UnrefinableCase, match="dataset.json lists no labels .*: repair or remove it") as refused:
        LabelSource.of(write_pack(tmp_path / "pack")).read(path)
    assert "\n" not in str(refused.value)


def test_a_dataset_json_that_is_nested_without_end_is_named(tmp_path):
    path = save(tmp_path / "masks" / "a.nii.gz", truth(), GRIDS["b"])
    (path.parent / "dataset.json").write_text("[" * 200_000)
    with pytest.raises(UnrefinableCase, match="dataset.json lists no labels"):
        names_of(path)


@pytest.mark.parametrize("inside", [-1, 255])
def test_binary_masks_keep_the_value_that_they_have(tmp_path, inside):
    folder, labels = made("masks", tmp_path)
    for name, value in {"esophagus": 1, "heart": 2}.items():
        save(folder / "a" / f"{name}.nii.gz", np.where(truth() == value, inside, 0).astype(np.int16), GRIDS["a"])
    record, _ = refine(folder, labels, tmp_path / "out")
    refined = values_of(record["outputs"]["refined"])
    assert (refined != np.maximum(OURS, 0)).any()
    for name, value in {"esophagus": 1, "heart": 2}.items():
        back = values_of(tmp_path / "out" / "as_given" / "a" / f"{name}.nii.gz")
        np.testing.assert_array_equal(back, np.where(refined == value, inside, 0))


def test_an_image_in_place_of_a_label_map_is_refused(tmp_path):
    """With names beside it every whole number would be a label of another organ."""
    folder, labels = made("nnU-Net", tmp_path)
    scan = np.random.default_rng(0).integers(0, 300, truth().shape).astype(np.int16)
    save(folder / "a.nii.gz", scan, GRIDS["a"])
    with pytest.raises(UnrefinableCase, match="a.nii.gz looks like an image.*give .*label map"):
        labels.read(folder / "a.nii.gz")


def names_and_cases(labels, folder):
    return [case["case"] for case in find_cases(folder, "pred", find=labels.find)]


def test_a_flat_folder_with_a_file_named_like_a_label_is_a_folder_of_cases(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    folder = tmp_path / "results"
    save(folder / "heart.nii.gz", truth(), GRIDS["a"])
    assert names_and_cases(labels, folder) == ["heart"]
    save(folder / "case_1.nii.gz", truth(), GRIDS["b"])
    assert names_and_cases(labels, folder) == ["case_1", "heart"]


@pytest.mark.parametrize(
    "files", [["heart", "spleen"], ["heart", "esophagus"], ["segmentations/heart"]], ids=["one", "two", "marked"]
)
def test_masks_of_one_case_are_one_case(tmp_path, files):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    for name in files:
        save(tmp_path / "a" / f"{name}.nii.gz", (truth() == 2).astype(np.uint8), GRIDS["a"])
    assert names_and_cases(labels, tmp_path / "a") == ["a"]


def test_a_folder_a_case_may_hold_one_mask_only(tmp_path):
    """As TotalSegmentator leaves with --roi_subset."""
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    for case, affine in GRIDS.items():
        save(tmp_path / "out" / case / "heart.nii.gz", (truth() == 2).astype(np.uint8), affine)
    assert names_and_cases(labels, tmp_path / "out") == ["a", "b"]


@pytest.mark.parametrize("inside", [1, 255])
def test_a_single_binary_mask_named_like_a_label_is_that_label(tmp_path, inside):
    """Its value 1 would be the oesophagus."""
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    file = save(tmp_path / "a" / "heart.nii.gz", ((truth() == 2) * inside).astype(np.uint8), GRIDS["a"])
    np.testing.assert_array_equal(labels.read(file).in_pack_values(), 2 * (truth() == 2))
    (record,) = refine(file.parent, labels, tmp_path / "out")
    assert set(np.unique(values_of(record["outputs"]["as_given"]))) == {0, inside}
    (source,) = list_sources([file], labels.pack.structures[1:], labels)
    np.testing.assert_array_equal(read_mask(source, 10)[0], truth() == 2)
    save(file, truth(), GRIDS["a"])
    np.testing.assert_array_equal(labels.read(file).in_pack_values(), truth())  # a case of that name


def test_folders_of_masks_beside_label_maps_are_named(tmp_path, caplog):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    folder = write_masks(tmp_path / "given")
    save(folder / "c.nii.gz", truth(), GRIDS["a"])
    assert names_and_cases(labels, folder) == ["c"]
    assert "not read beside label maps: the folders a, b; give them alone" in caplog.text


@pytest.mark.parametrize("ending", ["trans", "seg"])
def test_monai_s_own_layout_is_refined_and_scored(tmp_path, ending):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    ours = np.where(truth() == 9, 0, truth())
    for case, affine in GRIDS.items():
        save(tmp_path / "given" / case / f"{case}_{ending}.nii.gz", ours, affine)
        save(tmp_path / "truth" / f"{case}.nii.gz", ours, affine)
    save(tmp_path / "given" / "a" / "a.nii.gz", ours, GRIDS["a"])  # the image, which it may save too
    records = refine(tmp_path / "given", labels, tmp_path / "out")
    assert [r["case"] for r in records] == [f"a_{ending}", f"b_{ending}"]
    assert all(r["status"] == "refined" for r in records)
    options = {"processes": 1, "shape_metrics": False, "postprocessing": "none"}
    methods = {"initial": str(tmp_path / "given"), "refined": str(tmp_path / "out")}
    evaluate(str(tmp_path / "truth"), str(labels.pack.folder), str(tmp_path / "eval"), **methods, **options)
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert len(rows) == 8 and {float(r["dsc"]) for r in rows if r["method"] == "initial"} == {100}


SLICER = {3: "Esophagus", 7: "HEART", 1: "Spleen"}


@pytest.mark.parametrize("seed", [0, 3])
def test_segmentations_of_slicer_are_refined_scored_and_given_back(tmp_path, seed):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    frame = frame_lps(seed, (0.7, 0.9, 2.0))
    file = write_nrrd(tmp_path / "given" / "a.seg.nrrd", relabelled(VALUES), frame, **segments(SLICER))
    write_nrrd(tmp_path / "given" / "a.nrrd", relabelled(VALUES) * 9, frame)  # its image
    save(tmp_path / "truth" / "a.nii.gz", np.where(truth() == 9, 0, truth()), LPS @ frame)
    (record,) = refine(file.parent, labels, tmp_path / "out")
    assert record["case"] == "a" and record["status"] == "refined" and record["left_alone"] == ["Spleen"]
    for stage, expected in (("initial", OURS), ("refined", CARVED)):
        written = nib.load(record["outputs"][stage])
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.maximum(expected, 0))
        np.testing.assert_allclose(written.affine, LPS @ frame, atol=1e-4)
    back, header = nrrd.read(record["outputs"]["as_given"])
    expected = np.select([CARVED == 1, CARVED == 2, CARVED == OTHER], [3, 7, 1], 0)
    np.testing.assert_array_equal(back, expected)
    assert record["outputs"]["as_given"].endswith("as_given/a.seg.nrrd") and header["Segment0_Name"] == "Esophagus"
    options = {"processes": 1, "shape_metrics": False, "postprocessing": "none"}
    methods = {"initial": str(file.parent), "back": str(tmp_path / "out" / "as_given")}
    evaluate(str(tmp_path / "truth"), str(labels.pack.folder), str(tmp_path / "eval"), **methods, **options)
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert [float(row["dsc"]) == 100 for row in rows] == [True, False, True, False]


@pytest.mark.parametrize("seed", [0, 3])
def test_layers_of_segments_that_overlap_are_refined_scored_and_given_back(tmp_path, seed):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    frame = frame_lps(seed, (0.7, 0.9, 2.0))
    body = np.ones_like(OURS)
    layers = np.stack([OURS == 1, np.select([OURS == 2, OURS == OTHER], [1, 2], 0), body]).astype(np.uint8)
    places = [("Esophagus", 1, 0), ("HEART", 1, 1), ("Spleen", 2, 1), ("Body", 1, 2)]
    file = write_layers(tmp_path / "given" / "a.seg.nrrd", layers, frame, places)
    save(tmp_path / "truth" / "a.nii.gz", np.where(truth() == 9, 0, truth()), LPS @ frame)
    (record,) = refine(file.parent, labels, tmp_path / "out")
    assert record["status"] == "refined" and record["left_alone"] == ["Spleen", "Body"]
    for stage, expected in (("initial", OURS), ("refined", CARVED)):
        written = nib.load(record["outputs"][stage])
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.maximum(expected, 0))
        np.testing.assert_allclose(written.affine, LPS @ frame, atol=1e-4)
    (back, header), (_, before) = (nrrd.read(str(path)) for path in (record["outputs"]["as_given"], file))
    expected = np.stack([CARVED == 1, np.select([CARVED == 2, CARVED == OTHER], [1, 2], 0), body])
    np.testing.assert_array_equal(back, expected)
    assert back.dtype == np.uint8 and list(header) == list(before) and header["Segment3_Name"] == "Body"
    options = {"processes": 1, "shape_metrics": False, "postprocessing": "none"}
    methods = {"initial": str(file.parent), "back": str(tmp_path / "out" / "as_given")}
    evaluate(str(tmp_path / "truth"), str(labels.pack.folder), str(tmp_path / "eval"), **methods, **options)
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert [float(row["dsc"]) == 100 for row in rows] == [True, False, True, False]


def test_layers_that_are_no_one_label_map_are_refused_with_the_remedy(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    frame, layers = frame_lps(1, (1, 1, 2)), np.stack([OURS == 1, OURS > 0]).astype(np.uint8)
    for case, names, message in (
        ("a", ("Esophagus", "Heart"), "Esophagus and Heart overlap, so no label map can hold both: subtract"),
        ("b", ("Segment_1", "Segment_2"), r"\(Segment_1 \(1\), Segment_2 \(1\)\) cannot be told.*: name them like"),
        ("c", ("Liver", "Spleen"), "cannot be told by their names: name them like the labels of"),
    ):
        places = [(name, 1, layer) for layer, name in enumerate(names)]
        file = write_layers(tmp_path / "given" / f"{case}.seg.nrrd", layers, frame, places)
        with pytest.raises(UnreadableCase, match=message):
            labels.read(file)
    file = write_layers(tmp_path / "d.seg.nrrd", layers, frame, [("Esophagus", 1, 0), ("Heart", 1, 5)])
    with pytest.raises(UnreadableCase, match="d.seg.nrrd has fewer layers than its header names: export it again"):
        labels.read(file)
    records = refine(tmp_path / "given", labels, tmp_path / "out")
    assert [r["status"] for r in records] == ["failed"] * 3 and not records[0]["outputs"]


def test_layers_without_names_that_have_the_pack_s_values_are_its_labels(tmp_path):
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    frame, layers = frame_lps(2, (1, 1, 2)), np.stack([OURS == 1, np.where(OURS == 2, 2, 0)]).astype(np.uint8)
    places = [("Segment_1", 1, 0), ("Segment_2", 2, 1)]
    file = write_layers(tmp_path / "a.seg.nrrd", layers, frame, places)
    np.testing.assert_array_equal(labels.read(file).in_pack_values(), np.maximum(OURS, 0))


@pytest.mark.parametrize(
    ("ending", "write"), [("nrrd", write_nrrd), ("mha", write_meta_image), ("mhd", write_meta_image)]
)
def test_own_labels_come_back_in_the_format_that_they_came_in(tmp_path, ending, write):
    """Refined, or kept since nothing could be done."""
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    given, back = tmp_path / "given", tmp_path / "out" / "as_given"
    frame = frame_lps(3, (0.7, 0.9, 2.0))
    values = np.where(truth() == 9, 0, truth()).astype(np.uint8)
    for name, mask in (("a", values), ("b", truth().astype(np.uint8)), ("c", values * 0)):
        write(given / f"{name}.{ending}", mask, frame)
    (given / f"d.{ending}").write_bytes(b"NRRD0005")
    for _ in range(2):  # the second run clears what the first has written
        records = refine(given, labels, tmp_path / "out")
    assert [r["status"] for r in records] == ["refined", "kept", "kept", "failed"]
    refined, affine = read_labels(back / f"a.{ending}")
    np.testing.assert_array_equal(refined, values_of(records[0]["outputs"]["refined"]))
    assert refined.dtype == np.uint8 and (refined != truth()).any()
    np.testing.assert_array_equal(affine, read_labels(given / f"a.{ending}")[1])
    assert sorted(f.name for f in back.iterdir()) == sorted(f.name for f in given.iterdir() if f.name[0] != "d")
    for file in back.iterdir():
        assert file.name[0] == "a" or file.read_bytes() == (given / file.name).read_bytes()
    assert not values_of(records[2]["outputs"]["refined"]).any()


SIDED = {
    "sources": {
        "totalsegmentator": {
            "kidney_right": "kidney_right",
            2: "kidney_right",
            "kidney_left": "kidney_left",
            3: "kidney_left",
        },
        "other": {"niere rechts": "kidney_right", "niere links": "kidney_left"},
    }
}


def write_kidneys(folder, layout, values):
    """Kidneys of a case, `values` (X, Y, Z) with 2 for what is called right and 3 for left."""
    shape, affine = pairs.grid("oblique", "anisotropic")
    if layout == "masks":
        for name, value in (("kidney_right", 2), ("kidney_left", 3)):
            save(folder / "a" / f"{name}.nii.gz", (values == value).astype(np.uint8), affine)
    else:
        save(folder / "a.nii.gz", values, affine)
    if layout == "names":
        (folder / "dataset.json").write_text(json.dumps({"labels": {"niere rechts": 2, "niere links": 3}}))
    return folder


@pytest.mark.parametrize("layout", ["masks", "names", "values"])
@pytest.mark.parametrize("there", [("left", "right"), ("left",), ("right",)], ids="-".join)
def test_an_organ_on_the_other_side_gives_a_warning(tmp_path, layout, there):
    source = "totalsegmentator" if layout == "values" else ""
    labels = LabelSource.of(pairs.write_pack(tmp_path / "pack", **SIDED), source)
    both = pairs.kidneys(pairs.world(*pairs.grid("oblique", "anisotropic")))
    for name, right, left in (("good", 2, 3), ("exchanged", 3, 2)):
        values = np.zeros(both["left"].shape, np.uint8)
        for side in there:
            values[both[side]] = right if side == "right" else left
        folder = write_kidneys(tmp_path / name, layout, values)
        (record,) = refine(folder, labels, tmp_path / f"{name}_out")
        said = [warning for warning in record["warnings"] if "patient's" in warning]
        assert len(said) == (len(there) if name == "exchanged" else 0), said
        for side in there if name == "exchanged" else ():  # what is called the other side lies on this one
            assert any(f"lies on the patient's {side}: check the orientation" in warning for warning in said)


@pytest.mark.parametrize("fails", [False, True], ids=["refined", "kept"])
@pytest.mark.parametrize("layout", ["masks", "names", "values"])
def test_exchanged_sides_are_written_as_they_should_be_where_asked_to(tmp_path, layout, fails):
    labels = LabelSource.of(
        pairs.write_pack(tmp_path / "pack", **SIDED), "totalsegmentator" if layout == "values" else ""
    )
    both = pairs.kidneys(pairs.world(*pairs.grid("oblique", "anisotropic")))
    folder = write_kidneys(
        tmp_path / "masks", layout, np.where(both["right"], 3, np.where(both["left"], 2, 0)).astype(np.uint8)
    )
    chain = Fail("pred") if fails else None
    for fix in (False, True):
        (record,) = refine(folder, labels, tmp_path / f"out_{fix}", chain, fix)
        assert record["status"] == ("kept" if fails else "refined")
        assert sum("left and right" in warning for warning in record["warnings"]) == 1
        back = tmp_path / f"out_{fix}" / "as_given"
        for side, value in (("right", 2), ("left", 3)):
            written = values_of(back / "a" / f"kidney_{side}.nii.gz" if layout == "masks" else back / "a.nii.gz")
            found = written != 0 if layout == "masks" else written == value
            other = "left" if side == "right" else "right"
            assert (found & both[side]).any() == fix and (found & both[other]).any() == (not fix)


def test_a_pack_s_sides_are_known_from_its_sources():
    pack = OrganPack.load("kidneys")
    assert pack.source_sides["btcv"] == {2: "right", 3: "left"}
    assert pack.source_sides["nnunet"] == {"right kidney": "right", "left kidney": "left"}
    assert not any(OrganPack.load("liver").source_sides.values())


def test_masks_of_other_organs_in_folders_are_named_with_the_labels_that_fit(tmp_path):
    save(tmp_path / "masks" / "case_1" / "liver.nii.gz", (truth() == 9).astype(np.uint8), np.eye(4))
    labels = LabelSource.of(OrganPack.load(write_pack(tmp_path / "pack")))
    with pytest.raises(
        ValueError, match=r"case_1 holds liver, none of which is named like a label of .*heart.*--organ"
    ):
        labels.find(tmp_path / "masks")
