"""Options of a run that are of another kind."""

import pytest

from scripts.run.kinds import check_options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("seed", value) for value in (None, True, "0", "x", -1, 1.5, 2**32, 10**400, float("nan"), [1])),
        *(("device", value) for value in (None, "gpu", "cuda:99", "", 1.5, {}, 2**63)),
        *((switch, value) for switch in ("html", "overwrite") for value in ("perhaps", 2, [], float("nan"))),
        ("uncertainty", "perhaps"),
        *(("workers", value) for value in (None, True, "2", -1, 1.5)),
        *(("html_cases", value) for value in (None, True, "2", -1, 1.5, [1] * 1000)),
        *(("part", value) for value in (None, 2, "0/2", "3/2", "2/8/9", "x" * 1000)),
    ],
)
def test_an_option_of_another_kind_is_refused_in_a_line(option, value):
    with pytest.raises(SystemExit, match=f"^Error: {option}.* (must be|write) .*") as refused:
        check_options(**{option: value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize("option", ["mesh_mm", "mesh_faces", "fine_mm"])
def test_lengths_and_counts_are_refused_in_a_line(option):
    for value in ("no", -1, True, None, float("nan")):
        with pytest.raises(SystemExit, match=f"^Error: {option} .*give .*"):
            check_options(**{option: value})
    check_options(**{option: 2000})


def test_options_that_are_of_their_kind_pass():
    check_options()
    check_options(2**32 - 1, "cpu", "false", "yes", 8, "2/8")


def test_without_a_gpu_cuda_is_not_the_remedy(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="'cuda:99' is not there: write cpu; no GPU that CUDA can use is seen here$"):
        check_options(device="cuda:99")


def test_one_fine_mask_has_one_grid():
    with pytest.raises(SystemExit, match="^Error: fine_mm and grid both say on which grid .*: leave out one of them$"):
        check_options(fine_mm=1.0, grid="thin/")
    check_options(fine_mm=1.0, grid=None)
    check_options(fine_mm=0.0, grid="thin/")


@pytest.mark.parametrize("folder", ["image_dir", "prob_dir"])
def test_drawn_slices_are_refused_with_evidence_that_would_not_be_read(folder):
    with pytest.raises(SystemExit, match=f"^Error: {folder} is not read with --sparse true: leave out one of them$"):
        check_options(sparse="true", **{folder: "images"})
    check_options(sparse="false", **{folder: "images"})
    check_options(sparse=True, image_dir=None, prob_dir="")


def test_drawn_slices_are_not_taken_inward():
    with pytest.raises(SystemExit, match="inward_mm moves masks, but drawn slices stay as drawn"):
        check_options(inward_mm=2, sparse=True)


def test_what_masks_lack_is_drawn_from_images():
    with pytest.raises(SystemExit, match="^Error: add_missing draws .* give their folder with --image_dir$"):
        check_options(add_missing="true")
    with pytest.raises(SystemExit, match="^Error: add_missing must be true or false, not 'caudate'$"):
        check_options(add_missing="caudate", image_dir="images")
    check_options(add_missing=True, image_dir="images")


@pytest.mark.parametrize("other", [{"sparse": True}, {"inward_mm": "1.5"}])
def test_what_is_drawn_from_images_is_not_sparse_and_not_moved(other):
    with pytest.raises(SystemExit, match="^Error: .*add_missing.*: leave out one of them$"):
        check_options(add_missing=True, image_dir="images", **other)
    check_options(add_missing=False, **other)


def test_masks_that_are_not_refined_are_not_moved():
    with pytest.raises(
        SystemExit, match="^Error: inward_mm moves masks .* and refine is false: leave out one of them$"
    ):
        check_options(inward_mm="2.5", refine="false")
    check_options(inward_mm="2.5", refine="true")
    check_options(inward_mm="", refine=False)
