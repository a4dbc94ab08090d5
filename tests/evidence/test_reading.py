"""Evidence from a network's probabilities, or from an image."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.evidence.reading import evidence_from_probabilities
from scripts.organ.pack import OrganPack
from scripts.refine.chain import Refiner
from scripts.refine.transforms import PICCTd, TIMSampled
from tests.helpers.pairs import grid, kidneys, label_map, world, write_pack


def test_each_side_has_its_own_probabilities(tmp_path):
    """The labels' probabilities are added; what one side has at the other one's place is none of its own."""
    pack = OrganPack.load(write_pack(tmp_path))
    shape, affine = grid("oblique", "anisotropic")
    points = world(shape, affine)
    labels, both = label_map(points), kidneys(points)
    prob = np.stack([0.2 + 0.6 * (labels == value) for value in range(3)]).astype(np.float32)
    found = evidence_from_probabilities(prob, labels, affine, pack)
    left, right = (found.probability[f"kidney_{side}"] for side in ("left", "right"))
    np.testing.assert_allclose(left[both["left"]], 1.0)
    np.testing.assert_allclose(right[both["right"]], 1.0)
    assert not left[both["right"]].any() and not right[both["left"]].any()
    np.testing.assert_allclose(left + right, prob[1] + prob[2])
    with pytest.raises(ValueError, match="expected 3 probability channels"):
        evidence_from_probabilities(prob[:2], labels, affine, pack)


@pytest.mark.parametrize(("given", "source"), [(True, "image"), (False, "probability")])
def test_what_networks_see_in_an_image_goes_before_probabilities(given, source):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    labels = np.zeros((30, 30, 60), np.uint8)
    labels[12:18, 12:18, 5:55] = 3
    pred = MetaTensor(torch.from_numpy(labels[None]), affine=torch.from_numpy(affine))
    data = {"pred": pred, "prob": torch.nn.functional.one_hot(pred[0].long(), 5).permute(3, 0, 1, 2).float()}
    if given:
        data["image"] = MetaTensor(torch.rand(1, *labels.shape), affine=torch.from_numpy(affine))
    refiner = Refiner("thorax")
    data = TIMSampled("pred", refiner, image_key="image")(PICCTd("pred", refiner)(data))
    (case,) = [case for case in data["pred_shapes"] if not case.failure]
    assert (case.name, case.evidence.source) == ("trachea", source)
    assert not given or case.evidence.of_segmenter.source == "probability"  # for masks on which the image has no say
