"""Several organ packs at once: each structure as by its own pack, and their overlaps as within one pack."""

import numpy as np
import pytest

from scripts.cases.given import OTHER
from scripts.organ.pack import OrganPack
from scripts.organ.several import load_packs
from scripts.refine.chain import Refiner
from scripts.refine.several import JoinedRefiner
from scripts.refine.side_check import SidesFound
from tests.helpers.mean_shape import KINDS
from tests.helpers.two_packs import BEAN, PEA, SPLEEN, garden, write_pack, write_packs


def relabelled(values: np.ndarray, meaning: dict[int, int]) -> np.ndarray:
    """`garden`'s label map with other values, and `OTHER` for the rest."""
    result = np.where(values == 0, 0, OTHER).astype(np.int8)
    for theirs, ours in meaning.items():
        result[values == theirs] = ours
    return result


def refine_with(refiner, label_map, affine):
    stages = refiner.align(label_map, affine)
    stages = refiner.fit(refiner.sample(stages, label_map, affine))
    return refiner.reconstruct(stages, label_map, affine)


@pytest.mark.parametrize("kind", KINDS)
def test_each_structure_comes_out_as_by_its_own_pack(kind, tmp_path):
    folders, (values, affine) = write_packs(tmp_path), garden(kind)
    joined = JoinedRefiner(load_packs(folders), "linear")
    refined, shapes = refine_with(joined, relabelled(values, {BEAN: 1, PEA: 2}), affine)
    assert [(shape.name, shape.failure, shape.structure.labels) for shape in shapes] == [
        ("bean", "", (1,)),
        ("pea", "", (2,)),
    ]
    for folder, value, common, shape in zip(folders, (BEAN, PEA), (1, 2), shapes, strict=True):
        alone, (result,) = refine_with(
            Refiner(OrganPack.load(folder), "linear"), relabelled(values, {value: 1}), affine
        )
        np.testing.assert_array_equal(refined == common, alone == 1)
        np.testing.assert_array_equal(shape.mesh.vertices, result.mesh.vertices)
        assert shape.quality == result.quality
    assert shapes[0].quality["changed_voxels"] > 0
    np.testing.assert_array_equal(refined == OTHER, values == SPLEEN)


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_are_decided_as_within_one_pack(kind, tmp_path):
    values, affine = garden(kind, apart=9)
    label_map = relabelled(values, {BEAN: 1, PEA: 2})
    one = Refiner(OrganPack.load(write_pack(tmp_path / "both", {1: "bean", 2: "pea"})), "linear")
    expected, _ = refine_with(one, label_map, affine)
    joined = JoinedRefiner(load_packs(write_packs(tmp_path)), "linear")
    refined, shapes = refine_with(joined, label_map, affine)
    np.testing.assert_array_equal(refined, expected)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    for label, shape in zip((1, 2), shapes, strict=True):
        assert shape.quality["left_to_others_ml"] > 0
        volume_mm3 = np.count_nonzero(refined == label) * voxel_mm3  # the mesh has none of the other's voxels
        assert shape.mesh.volume == pytest.approx(volume_mm3, rel=0.002)


def test_a_pack_that_finds_nothing_of_its_own_says_nothing(tmp_path):
    values, affine = garden()
    joined = JoinedRefiner(load_packs(write_packs(tmp_path)), "linear")
    _, shapes = refine_with(joined, relabelled(values, {PEA: 2}), affine)
    assert [shape.name for shape in shapes] == ["pea"]


def test_exchanged_sides_are_found_in_the_values_of_all(tmp_path):
    lungs = write_pack(tmp_path / "lungs", {1: "left_lung", 2: "right_lung"})
    joined = JoinedRefiner(load_packs([write_pack(tmp_path / "peas", {1: "pea"}), lungs]), "linear")
    values, affine = garden()  # the bean lies left of the pea
    assert joined.mend_sides(relabelled(values, {BEAN: 2, PEA: 3}), affine, fix=True) == SidesFound()
    found = joined.mend_sides(relabelled(values, {BEAN: 3, PEA: 2}), affine, fix=True)
    assert found.pairs == {2: 3} and "left_lung lies to the right of right_lung" in found.said[0]


def test_a_part_on_the_wrong_side_has_the_values_of_the_label_map_of_all(tmp_path):
    lungs = write_pack(tmp_path / "lungs", {1: "left_lung", 2: "right_lung"})
    joined = JoinedRefiner(load_packs([write_pack(tmp_path / "peas", {1: "pea"}), lungs]), "linear")
    values, affine = garden()  # the bean lies left of the pea
    both = relabelled(values, {BEAN: 2, PEA: 2})
    mended = joined.mend_sides(both, affine).mend(both)
    np.testing.assert_array_equal(mended, relabelled(values, {BEAN: 2, PEA: 3}))
    removed = joined.mend_sides(both, affine, known={1, 2}).mend(both)
    np.testing.assert_array_equal(removed, relabelled(values, {BEAN: 2, PEA: 0}))
