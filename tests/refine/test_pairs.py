"""A whole head: the left and the right hippocampus under one label are refined each by itself."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.organ.pack import OrganPack
from tests.helpers.mean_shape import KINDS, damaged, dice, mean_shape, run, whole_head

NAMES = ["hippocampus_right", "hippocampus_left"]


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_are_refined_and_named(kind):
    truth, first, affine = whole_head(kind, cut=False)
    second = (truth > 0) & ~first
    bitten = np.where(second, truth, damaged(np.where(first, truth, 0).astype(np.uint8), affine))
    result = run(bitten, affine)
    refined, shapes = result["pred"].numpy()[0], result["pred_shapes"]
    assert [shape.name for shape in shapes] == NAMES and not any(shape.failure for shape in shapes)
    assert not any(shape.quality["warnings"] for shape in shapes)
    before, after = dice((bitten > 0) & ~second, first), dice((refined > 0) & ~second, first)
    assert after > before + 0.03 and after > 0.93
    np.testing.assert_array_equal(refined[second], truth[second])
    at_mm = {shape.name: shape.mesh.centroid[0] for shape in shapes}  # world x grows to the patient's right
    assert at_mm["hippocampus_right"] > at_mm["hippocampus_left"] + 30.0


def test_a_damaged_side_beside_a_whole_one_is_no_island():
    label_map, first, affine = whole_head("plain")
    refined = run(label_map, affine)["pred"].numpy()[0]
    second = (label_map > 0) & ~first
    assert (refined[second] > 0).mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_one_in_a_box_is_refined_as_without_a_word_of_pairs(kind):
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    pack = OrganPack.load("hippocampus")
    alone = replace(pack, structures=(replace(pack.structures[0], paired=False),))
    paired, single = run(broken, affine), run(broken, affine, organ=alone)
    np.testing.assert_array_equal(paired["pred"].numpy(), single["pred"].numpy())
    (one,), (other,) = paired["pred_shapes"], single["pred_shapes"]
    assert one.name == other.name == "hippocampus"
    np.testing.assert_array_equal(one.mesh.vertices, other.mesh.vertices)
