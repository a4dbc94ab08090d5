"""The predictor's training: runs whose truth is known, intervals that hold, and organs left out."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.quality.features import FEATURES_OF, OF_IMAGE
from scripts.quality.predictor import QualityPredictor
from scripts.training.quality.conformal import least_patients, width
from scripts.training.quality.examples import Example, load_examples
from scripts.training.quality.job import _other_kinds, quality, train

FEATURES = FEATURES_OF["fit"]
ONE_SPREAD = {"dsc": 1.0, "hd95": 1.0}


def examples(count: int, organ: str = "ball", seed: int = 0, shift: float = 0.0) -> list[Example]:
    """Masks whose DSC follows from their Dice with the fit, and whose HD95 from the 98th percentile."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        dice = rng.uniform(0.3, 0.98)
        values = rng.normal(size=len(FEATURES)).astype(np.float32)
        values[FEATURES.index("dice_with_fit")] = dice
        dsc = float(np.clip(100 * dice + shift + rng.normal(0, 2), 1, 99.5))
        found.append(Example("set", organ, f"p{n}", organ, "initial", values, 10.0, dsc, 20.0 * (1.02 - dice)))
    return found


def test_a_width_holds_the_promised_share_of_new_patients():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        scores = np.abs(rng.normal(size=30))
        held.append(abs(rng.normal()) <= width(scores, [str(n) for n in range(30)], 0.9))
    assert 0.87 < np.mean(held) < 0.95


def test_many_masks_of_one_patient_are_no_more_than_one_patient():
    scores = np.array([*np.linspace(0.1, 1.0, 12), *[9.0] * 50])
    alone = width(scores, [*map(str, range(12)), *["many"] * 50], 0.9)
    assert alone == pytest.approx(9.0)  # one of 13 patients is worse than 10 %
    spread = width(np.append(np.linspace(0.1, 1.0, 39), [9.0] * 50), [*map(str, range(39)), *["many"] * 50], 0.9)
    assert spread < 1.0


def test_groups_count_alike_whatever_number_of_patients_they_have():
    many, few = np.linspace(0.1, 1.0, 40), np.linspace(2.0, 3.0, 10)
    scores, patients = np.concatenate([many, few]), [str(n) for n in range(50)]
    groups = ["many"] * 40 + ["few"] * 10
    assert width(scores, patients, 0.75) < 1.0 < 2.4 < width(scores, patients, 0.75, groups) < 2.7
    assert width(scores, patients, 0.9, ["all"] * 50) == width(scores, patients, 0.9)


def test_too_few_patients_promise_nothing():
    assert least_patients(0.9) == 9 and least_patients(0.95) == 19
    scores = np.linspace(0, 1, 8)
    with pytest.raises(ValueError, match="8 patients cannot carry an interval of 90 %: it takes at least 9"):
        width(scores, [str(n) for n in range(8)], 0.9)
    assert width(np.linspace(0, 1, 9), [str(n) for n in range(9)], 0.9) == 1.0


def test_training_learns_what_the_figures_tell():
    predictor = QualityPredictor(train(examples(300), 0), ONE_SPREAD, ONE_SPREAD)
    unseen = examples(100, seed=1)
    found = [
        predictor.read(*(part[0] for part in predictor.raw(e.features[None])), e.radius_mm, ONE_SPREAD) for e in unseen
    ]
    assert np.mean([abs(one.dsc[0] - e.dsc) for one, e in zip(found, unseen, strict=True)]) < 4.0
    hd95 = [(one.hd95_mm[0], e.hd95_mm) for one, e in zip(found, unseen, strict=True)]
    assert np.corrcoef(np.array(hd95).T)[0, 1] > 0.9


def test_the_same_seed_gives_the_same_predictor():
    nets = (train(examples(60), seed) for seed in (0, 0, 1))
    one, again, other = (QualityPredictor(n, ONE_SPREAD, ONE_SPREAD).raw(examples(1)[0].features[None]) for n in nets)
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])


def write_run(
    folder,
    organ: str,
    count: int,
    seed: int,
    doubtful: tuple[int, ...] = (),
    taken_in: tuple[int, ...] = (),
    image: bool = False,
) -> None:
    """A benchmark's output folder as far as the training reads it."""
    rng = np.random.default_rng(seed)
    cases, rows = [], []
    for n in range(count):
        agreement = {}
        for stage, method, gain in (("initial", "initial", 0.0), ("refined", "default", 0.1)):
            dice = rng.uniform(0.4, 0.85) + gain
            agreement[stage] = dict.fromkeys(FEATURES, 0.1) | {"dice_with_fit": dice}
            if image:
                agreement[stage] |= dict.fromkeys(OF_IMAGE, 0.1) | {"head_dice": dice, "second_dice": None}
            score = {"dsc": 100 * dice - 2, "hd95_mm": 30 * (1 - dice)}
            rows.append(
                {"case": f"c{n}", "patient": f"c{n}", "structure": organ, "method": method, "failed": 0, **score}
            )
        fitted = {
            "name": organ,
            "quality": {
                "fit": {"radius_mm": 10.0},
                "agreement": agreement,
                "doubtful": n in doubtful,
                "taken_in_mm": 3.0 * (n in taken_in),
            },
        }
        cases.append({"case": f"c{n}", "structures": [fitted, {"name": "lost", "quality": {}}]})
    (folder / "default").mkdir(parents=True)
    (folder / "default" / "report.json").write_text(json.dumps({"settings": {"organ": organ}, "cases": cases}))
    (folder / "eval").mkdir()
    with open(folder / "eval" / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_examples_are_the_fitted_masks_of_all_runs_in_a_folder(tmp_path):
    write_run(tmp_path / "runs" / "weak", "ball", 3, 0)
    write_run(tmp_path / "runs" / "good", "cube", 2, 1)
    found = load_examples([str(tmp_path / "runs")])
    assert len(found) == 2 * (3 + 2)
    assert {(e.group, e.organ) for e in found} == {("runs/weak", "ball"), ("runs/good", "cube")}
    assert {e.stage for e in found} == {"initial", "refined"}
    first = found[0]
    assert first.features[FEATURES.index("dice_with_fit")] == pytest.approx((first.dsc + 2) / 100, abs=1e-4)
    assert len(load_examples([str(tmp_path / "runs" / "weak")])) == 6
    assert len(load_examples([str(tmp_path / "runs" / "*")])) == 10


def test_masks_of_which_nothing_is_predicted_teach_nothing(tmp_path):
    write_run(tmp_path / "run", "ball", 5, 0, doubtful=(1,), taken_in=(3,))
    assert {e.patient for e in load_examples([str(tmp_path / "run")])} == {"c0", "c2", "c4"}


def test_an_image_tells_of_masks_that_were_far_too_large_too(tmp_path):
    write_run(tmp_path / "run", "ball", 5, 0, doubtful=(1,), taken_in=(3,), image=True)
    write_run(tmp_path / "without", "ball", 5, 0)
    assert {e.patient for e in load_examples([str(tmp_path / "run")], "image")} == {"c0", "c2", "c3", "c4"}
    with pytest.raises(ValueError, match="no benchmark with the preset default in it whose voxel head has read images"):
        load_examples([str(tmp_path / "without")], "image")


def test_a_predictor_of_images_is_trained_from_runs_with_images(tmp_path):
    for n, organ in enumerate(("ball", "cube")):
        write_run(tmp_path / "runs" / organ, organ, 12, n, image=True)
    output, page = tmp_path / "quality.safetensors", tmp_path / "quality.md"
    quality(str(tmp_path / "runs"), output=str(output), page=str(page), image=True)
    assert QualityPredictor.load(output).told_by == "image"
    assert "--image true" in page.read_text()
    with open(page.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    away = [abs(float(r["dsc"]) - float(r["dsc_predicted"])) for r in rows]
    assert np.mean(away) < 4.0


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no benchmark with the preset default in it"):
        load_examples([str(tmp_path)])


def test_the_command_writes_predictor_page_and_all_masks(tmp_path):
    for n, organ in enumerate(("ball", "cube")):
        write_run(tmp_path / "runs" / organ, organ, 12, n)
    write_run(tmp_path / "test" / "ball", "ball", 10, 5)
    page, output = tmp_path / "quality.md", tmp_path / "quality.safetensors"
    said = quality(str(tmp_path / "runs"), str(tmp_path / "test"), str(output), str(page))
    assert "48 masks of 24 patients" in said
    assert QualityPredictor.load(output).card["patients"] == 24
    text = page.read_text()
    assert text.count("\n## ") == 8 and "runs/ball" in text and "test/ball" in text
    with open(page.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 48 + 2 * 20
    assert all(float(r["dsc_low"]) <= float(r["dsc_predicted"]) <= float(r["dsc_high"]) for r in rows)


def test_an_organ_that_two_packs_share_is_left_out_of_both():
    def of(organ: str, structure: str) -> Example:
        return replace(examples(1, organ)[0], structure=structure)

    known = [of("liver", "liver"), of("abdomen", "liver"), of("abdomen", "kidney_left"), of("kidneys", "kidney_right")]
    kept = _other_kinds([*known, of("brain", "amygdala_left")], known)
    assert kept["liver"] == [False, False, True, True, True]
    assert kept["kidneys"] == [True, True, False, False, True]
    assert kept["abdomen"] == [False, False, False, False, True]


def test_one_organ_alone_cannot_tell_of_another(tmp_path):
    write_run(tmp_path / "runs" / "ball", "ball", 12, 0)
    with pytest.raises(ValueError, match="without those of ball there is nothing to learn from"):
        quality(str(tmp_path / "runs"), output=str(tmp_path / "q.safetensors"))
    assert not (tmp_path / "q.safetensors").exists()
