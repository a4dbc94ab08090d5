"""What is said of a mask before it is refined."""

import pytest
import torch
from monai.data import MetaTensor

from scripts.cases import checks, errors, read
from tests.helpers.volumes import blocks, save

LABELS = [1, 2]


def check(mask):
    return checks.CheckMaskd("pred", LABELS)({"pred": mask})


def test_mask_checks(tmp_path):
    empty = read.read_label_map(save(tmp_path / "empty.nii.gz", blocks() * 0))
    with pytest.raises(errors.UnrefinableCase, match="empty.nii.gz: the mask is empty"):
        check(empty)
    other = read.read_label_map(save(tmp_path / "other.nii.gz", blocks() * 4))
    with pytest.raises(errors.UnrefinableCase, match=r"other.nii.gz holds the labels \[4, 8\].*\[1, 2\].*--organ"):
        check(other)
    good = read.read_label_map(save(tmp_path / "good.nii.gz", blocks()))
    kept = checks.KeepInitiald("pred")(check(good))
    kept["pred"][0, 0, 0, 0] = 2
    assert int(kept["initial"][0, 0, 0, 0]) == 1 and kept["initial"].meta["filename_or_obj"].endswith("good.nii.gz")


def test_of_many_values_that_no_label_has_some_are_named():
    mask = torch.arange(27, dtype=torch.int32).reshape(1, 3, 3, 3)
    for axis in (1, 2, 3):
        mask = mask.repeat_interleave(4, axis)
    with pytest.raises(errors.UnrefinableCase, match=r"the labels \[3, 4, 5, 6, 7\] and 19 more, but"):
        check(MetaTensor(mask))


def test_an_image_of_whole_numbers_is_called_an_image():
    image = torch.randint(0, 200, (1, 12, 12, 12), generator=torch.Generator().manual_seed(0))
    with pytest.raises(errors.UnrefinableCase, match=r"looks like an image: it holds 1\d\d values"):
        check(MetaTensor(image))
