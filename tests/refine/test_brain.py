"""The pack of the brain on a person it has not seen: seven structures a side, chunks cut out of some."""

import numpy as np
import pytest

from scripts.cases.read import read_labels
from scripts.refine.chain import Refiner
from scripts.simulation.damage import damage
from scripts.training.prior.check import dice

BROKEN = ("caudate_left", "putamen_right", "thalamus_left", "pallidum_right", "hippocampus_left")


@pytest.mark.slow
def test_chunks_come_back_and_what_is_whole_stays(shared_data):
    file = shared_data / "brain" / "labels" / "brain_1023.nii.gz"
    if not file.is_file():
        pytest.skip(f"no label map at {file}")
    refiner = Refiner("brain", see=False)
    labels, affine = read_labels(file)
    truth = np.where(labels <= 14, labels, 0).astype(np.uint8)
    masks = refiner.pack.masks(truth, affine)
    broken = truth
    for seed, name in enumerate(BROKEN):
        broken = damage(broken, affine, seed, ["chunk"], masks[name])
    refined, results = refiner.refine(broken, affine)
    assert len(results) == 14
    before, after = (
        {name: dice(refiner.pack.structure(name).union(one), mask) for name, mask in masks.items()}
        for one in (broken, refined)
    )
    assert np.mean([after[name] - before[name] for name in BROKEN]) > 0.03
    whole = [name for name in masks if name not in BROKEN]
    assert np.median([after[name] for name in whole]) > 0.995 and min(after[name] for name in whole) > 0.95
