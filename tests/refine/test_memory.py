"""What a large, mostly empty label map takes in memory on its way through the chain."""

import tracemalloc

import nibabel as nib
import numpy as np
from monai.transforms import Compose

from scripts.cases.checks import CheckMaskd, KeepInitiald
from scripts.cases.sources import LabelSource, ReadMaskd
from scripts.organ.pack import OrganPack
from scripts.refine.transforms import RefineShaped
from scripts.report.outcome import outcome_of
from tests.helpers.mean_shape import mean_shape

SIDE = 320
BYTES_A_VOXEL = 4.0  # of numpy: the label map, its refined copy, and one more at a time


def test_a_large_map_takes_few_bytes_a_voxel(tmp_path):
    shape, affine = mean_shape("plain")
    values = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    values[tuple(slice(100, 100 + n) for n in shape.shape)] = shape
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "a.nii")
    del values
    chain = Compose(
        [
            ReadMaskd("pred", LabelSource.of("hippocampus")),
            KeepInitiald("pred"),
            CheckMaskd("pred", list(OrganPack.load("hippocampus").labels)),
            RefineShaped("pred", "hippocampus", "linear"),
        ]
    )
    tracemalloc.start()
    data = chain({"pred": tmp_path / "a.nii"})
    found = outcome_of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.status != "kept", found.reason
    assert peak < BYTES_A_VOXEL * SIDE**3
