"""Folders as AbdomenAtlas, VISTA3D, MOOSE, FastSurfer and evalseg leave them: read, refined and given back."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from scripts.cases.errors import UnrefinableCase
from scripts.cases.label_names import names_of
from scripts.cases.read import read_labels
from scripts.cases.sources import LabelSource
from scripts.evaluation.evaluate import evaluate
from scripts.shapes.label_surface import list_sources, surface_key
from scripts.shapes.samples import SampleSettings
from tests.cases.test_sources import refine, values_of
from tests.helpers.foreign import GRIDS, relabelled, save, truth, write_pack

SOURCES = {
    "sources": {
        "abdomenatlas": {16: "oesophagus", 1: "heart", "esophagus": "oesophagus"},
        "fastsurfer": {17: "oesophagus", 53: "heart"},
        "vista3d": {11: "oesophagus", 115: "heart"},
    }
}
COMBINED = "combined_labels.nii.gz"
DEEP = "mri/aparc.DKTatlas+aseg.deep.mgz"


def write_abdomenatlas(folder, masks=True, combined=True):
    for case, affine in GRIDS.items():
        save(folder / case / "ct.nii.gz", truth() * 100, affine)
        for name, value in {"esophagus": 1, "heart": 2, "postcava": 9}.items() if masks else ():
            save(folder / case / "segmentations" / f"{name}.nii.gz", (truth() == value).astype(np.uint8), affine)
        if combined:
            save(folder / case / COMBINED, relabelled({1: 16, 2: 1, 9: 7}), affine)
    return folder


def write_fastsurfer(folder):
    for case, affine in GRIDS.items():
        (folder / case / "mri").mkdir(parents=True)
        (folder / case / "stats").mkdir()
        for name, values in (("orig.mgz", truth() * 100), (DEEP[4:], relabelled({1: 17, 2: 53, 9: 2}))):
            nib.save(nib.MGHImage(values.astype(np.int16), affine), folder / case / "mri" / name)
    (folder / "fsaverage" / "surf").mkdir(parents=True)
    return folder


LAYOUTS = {
    "AbdomenAtlas' label maps": (lambda f: write_abdomenatlas(f, masks=False), "abdomenatlas", COMBINED),
    "FastSurfer": (write_fastsurfer, "fastsurfer", DEEP),
}
EVERY = pytest.mark.parametrize("layout", LAYOUTS)


def made(layout, folder):
    make, source, inner = LAYOUTS[layout]
    return make(folder / "given"), LabelSource.of(write_pack(folder / "pack", **SOURCES), source), inner


@EVERY
def test_a_case_folder_with_one_label_map_is_a_case(layout, tmp_path):
    folder, labels, inner = made(layout, tmp_path)
    assert labels.find(folder) == [folder / "a", folder / "b"]
    assert labels.find(folder / "a") == [folder / "a"]
    for case, affine in GRIDS.items():
        given = labels.read(folder / case)
        found = given.in_pack_values()
        np.testing.assert_array_equal(np.where(found < 0, 9, found), truth())
        np.testing.assert_allclose(given.affine, affine, atol=1e-4)
        assert labels.files(folder / case) == [folder / case / inner]


@EVERY
def test_its_refined_label_map_comes_back_under_its_name(layout, tmp_path):
    folder, labels, inner = made(layout, tmp_path)
    for _ in range(2):  # the second run clears what the first has written
        records = refine(folder, labels, tmp_path / "out")
    assert [(r["case"], r["status"]) for r in records] == [("a", "refined"), ("b", "refined")]
    for record in records:
        name = inner.rpartition("/")[2]
        back, affine = read_labels(tmp_path / "out" / "as_given" / record["case"] / name)
        before, its_affine = read_labels(folder / record["case"] / inner)
        refined = values_of(record["outputs"]["refined"])
        ours = {value: label for value, label in labels.read(folder / record["case"]).meaning.items() if label}
        np.testing.assert_array_equal(np.vectorize(lambda v, ours=ours: ours.get(v, 0))(back), refined)
        assert (back != before).any() and back.dtype == before.dtype
        np.testing.assert_array_equal(back[truth() == 9], before[truth() == 9])
        np.testing.assert_allclose(affine, its_affine)


@EVERY
def test_it_is_scored_and_learned_from(layout, tmp_path):
    folder, labels, inner = made(layout, tmp_path)
    save(tmp_path / "labels" / "a.nii.gz", np.where(truth() == 9, 0, truth()), GRIDS["a"])
    table = evaluate(
        str(tmp_path / "labels"), str(labels.pack.folder), str(tmp_path / "eval"), source=labels.name,
        processes=1, shape_metrics=False, theirs=str(folder),
    )  # fmt: skip
    with open(tmp_path / "eval" / "metrics.csv", newline="") as file:
        assert {float(row["dsc"]) for row in csv.DictReader(file)} == {100.0}, table
    source = list_sources(labels.find(folder), labels.pack.structures[:1], labels=labels)[0]
    before = surface_key(source, SampleSettings())
    (folder / "a" / inner).write_bytes((folder / "b" / inner).read_bytes())
    assert surface_key(source, SampleSettings()) != before


@EVERY
def test_a_label_map_without_names_is_not_taken_for_the_pack_s_own(layout, tmp_path):
    """Its numbers are another model's: 1 is the aorta in AbdomenAtlas."""
    folder, labels, _ = made(layout, tmp_path)
    with pytest.raises(UnrefinableCase, match="no names of labels: .*--source and one of abdomenatlas, fastsurfer"):
        LabelSource.of(labels.pack).read(folder / "a")
    assert set(np.unique(LabelSource.of(labels.pack, "own").read(folder / "a").in_pack_values())) <= {-1, 0, 1, 2}


def test_masks_named_like_labels_are_read_before_the_label_map(tmp_path):
    folder = write_abdomenatlas(tmp_path / "given")
    for source in ("", "abdomenatlas"):
        labels = LabelSource.of(write_pack(tmp_path / "pack", **SOURCES), source)
        assert labels.find(folder) == [folder / "a", folder / "b"] and labels.find(folder / "b") == [folder / "b"]
        given = labels.read(folder / "a")
        np.testing.assert_array_equal(given.in_pack_values(), np.where(truth() == 9, 0, truth()))
        assert given.others == ["postcava"] and given.label_map is None


def test_numbers_of_vista3d_are_read_in_monai_s_layout(tmp_path):
    for case, affine in GRIDS.items():
        save(tmp_path / "given" / case / f"{case}_trans.nii.gz", relabelled({1: 11, 2: 115, 9: 3}), affine)
    labels = LabelSource.of(write_pack(tmp_path / "pack", **SOURCES), "vista3d")
    cases = labels.find(tmp_path / "given")
    assert [case.name for case in cases] == ["a_trans.nii.gz", "b_trans.nii.gz"]
    found = labels.read(cases[0]).in_pack_values()
    np.testing.assert_array_equal(np.where(found < 0, 9, found), truth())


def write_moose(folder, indices):
    """One image's segmentations by two of its models, each with its own names."""
    save(folder / "clin_CT_organs_segmentation_CT_a.nii.gz", relabelled({1: 3, 2: 19, 9: 8}), GRIDS["b"])
    save(folder / "clin_CT_cardiac_segmentation_CT_a.nii.gz", relabelled({1: 3, 2: 6}), GRIDS["b"])
    (folder / "clin_CT_organs_organ_indices.json").write_text(json.dumps(indices))
    (folder / "clin_CT_cardiac_organ_indices.json").write_text(
        json.dumps({"organ_indices": {"6": {"name": "aorta", "SNOMED": {}}, "3": {"name": "heart_atrium_right"}}})
    )
    return folder


def test_names_of_moose_lie_beside_its_label_maps(tmp_path):
    names = {"3": {"name": "Esophagus", "SNOMED": {}}, "19": {"name": "heart"}, "8": {"name": "liver"}}
    folder = write_moose(tmp_path / "S1" / "segmentations", {"organ_indices": names})
    labels = LabelSource.of(write_pack(tmp_path / "pack"))
    cardiac, organs = labels.find(folder)
    assert names_of(organs) == {3: ["Esophagus"], 19: ["heart"], 8: ["liver"]}
    assert names_of(cardiac) == {6: ["aorta"], 3: ["heart_atrium_right"]}
    given = labels.read(organs)
    found = given.in_pack_values()
    np.testing.assert_array_equal(np.where(found < 0, 9, found), truth())
    assert given.others == ["liver"]
    with pytest.raises(UnrefinableCase, match="none of its labels"):
        labels.read(cardiac)


@pytest.mark.parametrize("indices", [{}, [], {"organ_indices": {"x": {"name": "heart"}}}, {"organ_indices": {"1": 2}}])
def test_names_of_moose_that_cannot_be_read_are_named_with_the_remedy(tmp_path, indices):
    folder = write_moose(tmp_path / "segmentations", indices)
    with pytest.raises(UnrefinableCase, match="organs_organ_indices.json lists no labels as MOOSE .*repair or remove"):
        names_of(folder / "clin_CT_organs_segmentation_CT_a.nii.gz")


@pytest.mark.parametrize(
    ("organ", "source", "theirs", "ours"),
    [
        ("pancreas", "evalseg8", 2, "pancreas"),
        ("liver", "evalseg8", 6, "liver"),
        ("kidneys", "evalseg8", 3, "kidney"),
        ("pancreas", "abdomenatlas", 6, "pancreas"),
        ("liver", "abdomenatlas", 5, "liver"),
        ("kidneys", "abdomenatlas", 4, "kidney"),
        ("thorax", "abdomenatlas", 16, "oesophagus"),
        ("pancreas", "vista3d", 4, "pancreas"),
        ("liver", "vista3d", 1, "liver"),
        ("kidneys", "vista3d", 14, "kidney"),
        ("thorax", "vista3d", 115, "heart"),
        ("lung_lobes", "vista3d", 28, "left_upper"),
        ("pancreas", "moose", 14, "pancreas"),
        ("liver", "moose", 8, "liver"),
        ("kidneys", "moose", 6, "kidney"),
        ("lung_lobes", "moose", 9, "left_lower"),
        ("thorax", "moose", 19, "trachea"),
        ("brain", "fastsurfer", 4, "ventricle_left"),
        ("brain", "fastsurfer", 49, "thalamus_right"),
        ("brain", "fastsurfer", 53, "hippocampus_right"),
        ("brain", "fastsurfer", 18, "amygdala_left"),
        ("hippocampus", "fastsurfer", 53, "anterior"),  # the first label of the structure
    ],
)
def test_the_packs_know_the_numbers_of_other_models(organ, source, theirs, ours):
    pack = LabelSource.of(organ, source).pack
    assert pack.labels[pack.sources[source][theirs]] == ours


def test_the_packs_know_the_sides_of_other_models_kidneys():
    sides = LabelSource.of("kidneys").pack.source_sides
    assert sides["evalseg8"] == {3: "left"} and sides["abdomenatlas"] == {3: "left", 4: "right"}
    assert {value: sides["vista3d"].get(value) for value in (2, 5, 14)} == {2: None, 5: "right", 14: "left"}
    assert sides["moose"] == {6: "left", 7: "right"}
