"""Folders of simulated errors from a small pack with two structures, on three kinds of grids."""

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.errors import UnreadableCase, UnrefinableCase
from scripts.cases.sources import LabelSource
from scripts.cases.split import choose_labels
from scripts.geometry.affine import apply_affine
from scripts.metrics.topology import count_components
from scripts.organ.pack import OrganPack
from scripts.simulation.damage import CHUNK_SHARE
from scripts.simulation.simulate import RECIPES, choose_kinds, read_truth, simulate, with_errors
from tests.helpers.pairs import grid, kidneys, label_map, save, world
from tests.helpers.pairs import write_pack as write_pairs
from tests.helpers.small_pack import write_pack
from tests.helpers.two_balls import STRUCTURES, two_balls
from tests.helpers.volumes import AFFINES

CASES = list(AFFINES)


@pytest.fixture
def folder(tmp_path):
    split = {"test": [f"{case}.nii.gz" for case in CASES[1:]], "train": [f"{CASES[0]}.nii.gz"]}
    write_pack(tmp_path / "pack", structures=STRUCTURES, split=split)
    (tmp_path / "labels").mkdir()
    for code, case in enumerate(CASES, 1):
        image = nib.Nifti1Image(two_balls(), AFFINES[case])
        image.set_sform(AFFINES[case], code)
        nib.save(image, tmp_path / "labels" / f"{case}.nii.gz")
    return tmp_path


def run(folder, out="out", **options):
    options = {"output_dir": str(folder / out), **options}
    return simulate(str(folder / "labels"), str(folder / "pack"), **options)


def read(folder, kind, case, out="out"):
    return nib.load(folder / out / kind / f"{case}.nii.gz")


def test_every_kind_keeps_grid_type_and_other_labels(folder):
    assert "3 cases each of missing, cut, islands, steps, rough, mixed, clean" in run(folder)
    for kind in RECIPES:
        for case in CASES:
            source, written = nib.load(folder / "labels" / f"{case}.nii.gz"), read(folder, kind, case)
            assert written.get_data_dtype() == source.get_data_dtype()
            assert written.header["sform_code"] == source.header["sform_code"]
            np.testing.assert_array_equal(written.affine, source.affine)
            values = np.asarray(written.dataobj)
            assert set(np.unique(values)) == {0, 1, 2, 7} and values[59, 39, 35] == 7
            assert (values != two_balls()).any() == (kind != "clean")
    assert (folder / "out" / "clean" / "flipped.nii.gz").read_bytes() == (
        folder / "labels" / "flipped.nii.gz"
    ).read_bytes()


def test_each_structure_is_damaged(folder):
    run(folder)
    truth = two_balls()
    for case in CASES:
        for label in (1, 2):
            own = truth == label
            missing, islands, mixed = (
                np.asarray(read(folder, kind, case).dataobj) == label for kind in ("missing", "islands", "mixed")
            )
            np.testing.assert_allclose((own & ~missing).sum() / own.sum(), CHUNK_SHARE, atol=0.01)
            assert not (missing & ~own).any()
            assert islands[own].all() and count_components(islands) > 1
            assert (own & ~mixed).any() and (mixed & ~own).any() and count_components(mixed) > 1


def test_a_case_does_not_depend_on_the_others(folder):
    run(folder, "all")
    run(folder, "some", kinds=("mixed", "rough"), split="test")
    assert sorted(p.name for p in (folder / "some").iterdir()) == ["mixed", "rough"]
    assert len(list((folder / "some" / "mixed").iterdir())) == 2
    for case in CASES[1:]:
        some, all_ = (np.asarray(read(folder, "mixed", case, out).dataobj) for out in ("some", "all"))
        np.testing.assert_array_equal(some, all_)
    run(folder, "other", kinds="mixed", seed=1)
    assert (np.asarray(read(folder, "other/mixed", CASES[1], ".").dataobj) != some).any()


def test_cases_are_spread_over_the_names(folder):
    pack = OrganPack.load(folder / "pack")
    names = [file.name for file in choose_labels(folder / "labels", pack, cases=2)]
    assert names == ["flipped.nii.gz", "straight.nii.gz"]
    assert len(choose_labels(folder / "labels", pack)) == 3


def test_wrong_options_are_refused(folder):
    pack = OrganPack.load(folder / "pack")
    with pytest.raises(ValueError, match="unknown kinds rust; there are missing"):
        run(folder, kinds="missing,rust")
    assert choose_kinds(" steps, clean,steps") == ["steps", "clean"]
    with pytest.raises(ValueError, match=r"no split 'tset'; it has \['test', 'train'\].*--split ''"):
        choose_labels(folder / "labels", pack, "tset")
    (folder / "labels" / "flipped.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"lacks cases of the split 'test' \(flipped\): add them"):
        choose_labels(folder / "labels", pack, "test")
    (folder / "labels" / "straight.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UnreadableCase, match="straight.nii.gz"):
        run(folder, kinds="steps")
    assert not (folder / "out" / "steps" / "straight.nii.gz").exists()


def test_sides_are_damaged_each_for_itself(tmp_path):
    shape, affine = grid("slices first", "anisotropic")
    points = world(shape, affine)
    labels, both = label_map(points), kidneys(points)
    save(tmp_path / "labels" / "a.nii.gz", labels, affine)
    simulate(str(tmp_path / "labels"), str(write_pairs(tmp_path / "pack")), str(tmp_path / "out"), "missing")
    after = np.asarray(nib.load(tmp_path / "out" / "missing" / "a.nii.gz").dataobj)
    for mask in both.values():
        assert (after[mask] == 0).mean() == pytest.approx(CHUNK_SHARE, abs=0.01)
    np.testing.assert_array_equal(after[after > 0], labels[after > 0])


def test_labels_of_another_source_become_the_packs(folder):
    """Values 5 and 9 mean the pack's 1 and 2: the masks are those of the pack's own label maps, without the rest."""
    settings = yaml.safe_load((folder / "pack" / "organ.yaml").read_text())
    settings["sources"] = {"other": {5: "shell", 9: "core"}}
    (folder / "pack" / "organ.yaml").write_text(yaml.safe_dump(settings))
    run(folder, kinds="missing,clean", split="test")
    foreign = np.select([two_balls() == 1, two_balls() == 2, two_balls() == 7], [5, 9, 2])
    for case in CASES:
        nib.save(nib.Nifti1Image(foreign.astype(np.int16), AFFINES[case]), folder / "labels" / f"{case}.nii.gz")
    run(folder, "foreign", kinds="missing,clean", split="test", label_source="other")
    for kind in ("missing", "clean"):
        own, mapped = (np.asarray(read(folder, kind, CASES[1], out).dataobj) for out in ("out", "foreign"))
        assert set(np.unique(mapped)) == {0, 1, 2}
        np.testing.assert_array_equal(mapped, np.where(own == 7, 0, own))


@pytest.mark.parametrize("case", CASES)
def test_the_part_that_is_read_holds_all_errors_where_they_are(tmp_path, case):
    write_pack(tmp_path / "pack", structures=STRUCTURES)
    wide = np.pad(two_balls() % 7, 40)
    nib.save(nib.Nifti1Image(wide, AFFINES[case]), tmp_path / "a.nii.gz")
    labels = LabelSource.of(str(tmp_path / "pack"))
    part, affine, box = read_truth(tmp_path / "a.nii.gz", labels)
    assert part.size < wide.size and part.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(part, wide[box])
    start = [one.start for one in box]
    np.testing.assert_allclose(apply_affine(affine, np.zeros((1, 3))), apply_affine(AFFINES[case], np.array([start])))
    for kind in set(RECIPES) - {"steps"}:  # where thick slices begin depends on where the array does
        whole = with_errors(wide, AFFINES[case], labels.pack.structures, kind, "7")
        np.testing.assert_array_equal(with_errors(part, affine, labels.pack.structures, kind, "7"), whole[box])
        whole[box] = 0
        assert not whole.any()


def test_the_part_that_is_read_has_the_sides_of_the_whole(tmp_path):
    """A lone kidney that is lopsided lies on either side of its own middle; the volume's tells its side."""
    write_pairs(tmp_path / "pack")
    labels = LabelSource.of(str(tmp_path / "pack"))
    x, y, z = np.ogrid[:160, :50, :50]
    lone = ((x - 45) ** 2 + (y - 25) ** 2 + (z - 25) ** 2 <= 100) | (
        (x - 60) ** 2 + (y - 25) ** 2 + (z - 25) ** 2 <= 16
    )
    nib.save(nib.Nifti1Image(lone.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "lone.nii.gz")
    part, affine, box = read_truth(tmp_path / "lone.nii.gz", labels)
    whole = labels.pack.masks(lone.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert part.size < lone.size and sorted(mask.any() for mask in whole.values()) == [False, True]
    for name, mask in labels.pack.masks(part, affine).items():
        np.testing.assert_array_equal(mask, whole[name][box])


def test_a_label_map_without_the_organ_is_named(tmp_path):
    write_pack(tmp_path / "pack", structures=STRUCTURES)
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    with pytest.raises(UnrefinableCase, match=r"empty\.nii\.gz holds none of the structures"):
        read_truth(tmp_path / "empty.nii.gz", LabelSource.of(str(tmp_path / "pack")))
