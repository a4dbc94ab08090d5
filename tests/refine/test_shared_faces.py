"""Meshes of structures that touch, as a refinement returns them: with faces that both have."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.metrics.smoothness import rough_share
from scripts.organ.pack import OrganPack
from scripts.refine.chain import Refiner
from scripts.refine.draw_mesh import MeshRequest
from scripts.refine.transforms import ReconstructShaped
from tests.helpers.mean_shape import mean_shape

BESIDE = 9  # voxels: the second one begins inside of the first, which keeps what both would have


@pytest.fixture(scope="module")
def refiner():
    own = OrganPack.load("hippocampus")
    (structure,) = own.structures
    two = tuple(replace(structure, name=name, labels=(label,)) for label, name in ((1, "one"), (2, "two")))
    return Refiner(replace(own, labels={1: "one", 2: "two"}, structures=two), "linear", see=False)


def test_refined_structures_that_touch_share_their_faces(refiner):
    truth, affine = mean_shape("plain")
    label_map = np.pad(np.where(truth > 0, 1, 0), ((0, BESIDE), (0, 0), (0, 0)))
    label_map[BESIDE:][(truth > 0) & (label_map[BESIDE:] == 0)] = 2
    fitted = refiner.fit(refiner.sample(refiner.align(label_map, affine), label_map, affine))
    refined, shapes = refiner.reconstruct(fitted, label_map, affine, MeshRequest(shared=True))
    apart, separate = refiner.reconstruct(fitted, label_map, affine)
    np.testing.assert_array_equal(refined, apart)  # only the meshes differ
    shared = []
    for label, shape in zip((1, 2), shapes, strict=True):
        mesh = shape.mesh
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume == pytest.approx(np.count_nonzero(refined == label), rel=0.002)
        assert len(shape.correspondence.vertex_data()) > 0
        assert rough_share(mesh, 1.0) < 0.12  # most of it at the edge where they part; unsmoothed up to 0.24
        shared.append({tuple(sorted(map(tuple, corners))) for corners in np.asarray(mesh.triangles)})
    assert len(shared[0] & shared[1]) > 200
    assert not {tuple(v) for v in separate[0].mesh.vertices} & {tuple(v) for v in separate[1].mesh.vertices}


def test_shared_faces_are_not_thinned(refiner):
    with pytest.raises(ValueError, match="mesh_faces would thin shared faces apart"):
        ReconstructShaped("pred", refiner, mesh_faces=1000, shared_faces=True)
