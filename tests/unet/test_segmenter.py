"""A pack's U-Net on images in memory."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.geometry.affine import apply_affine
from scripts.organ.pack import OrganError, OrganPack
from scripts.unet.segmenter import Segmenter
from tests.helpers.small_pack import write_pack
from tests.helpers.volumes import AFFINES


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.of(OrganPack.load("hippocampus"))


def test_a_pack_without_a_trained_u_net_has_none(tmp_path):
    assert Segmenter.of(OrganPack.load("liver")) is None
    untrained = OrganPack.load(write_pack(tmp_path / "pack"))
    assert untrained.network and Segmenter.of(untrained) is None
    (untrained.folder / "model.pt").write_bytes(b"nothing")
    with pytest.raises(OrganError, match=r"model\.pt does not hold the weights"):
        _ = Segmenter.of(untrained).network


@pytest.mark.parametrize("kind", AFFINES)
def test_it_says_where_its_probabilities_lie(segmenter, kind):
    values = torch.from_numpy(np.random.default_rng(0).normal(100, 20, (1, 32, 40, 36)).astype(np.float32))
    affine = AFFINES[kind]
    state = torch.get_rng_state()
    found = segmenter(MetaTensor(values, affine=torch.from_numpy(affine)))
    assert torch.equal(state, torch.get_rng_state())
    assert found.shape[0] == 3
    np.testing.assert_allclose(np.asarray(found).sum(0), 1.0, atol=1e-5)
    middle = [
        apply_affine(np.asarray(where), (np.array(shape)[None] - 1) / 2)[0]
        for where, shape in ((affine, values.shape[1:]), (found.affine, found.shape[1:]))
    ]
    assert np.abs(middle[0] - middle[1]).max() < 1.0
    assert torch.equal(
        torch.as_tensor(found), torch.as_tensor(segmenter(MetaTensor(values, affine=torch.tensor(affine))))
    )


def test_a_whole_head_is_cut_to_a_box_around_the_organ(segmenter):
    affine = np.diag([-2.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [160, -80, -20]
    values = np.arange(100 * 160 * 150, dtype=np.float32).reshape(100, 160, 150)
    seen_mm = np.array([[20.0, 0.0, 30.0], [30.0, 38.0, 50.0]])
    part, own = segmenter.cut(values, affine, seen_mm)
    known_mm = np.array(segmenter.pack.image_mm)
    extent_mm = np.multiply(part.shape, [2, 1, 1])
    assert (extent_mm >= known_mm).all() and (extent_mm <= known_mm + 5).all()
    middle = apply_affine(own, (np.array(part.shape)[None] - 1) / 2)[0]
    assert np.abs(middle - seen_mm.mean(0)).max() <= 2
    index = np.linalg.inv(affine) @ own[:, 3]
    assert part[0, 0, 0] == values[tuple(index[:3].round().astype(int))]
    both = np.array([[0.0, 0.0, 30.0], [100.0, 38.0, 50.0]])
    assert segmenter.cut(values, affine, both)[0].shape[0] * 2 >= 100 + 10
    same, unmoved = segmenter.cut(values[:17, :50, :36], affine, seen_mm)
    assert same.shape == (17, 50, 36) and (unmoved == affine).all()
    assert not segmenter.cut(values, affine, seen_mm + 1000)[0].size
