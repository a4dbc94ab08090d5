"""The ablation: its variants, their packs, and what its page says."""

import math

import pytest
import yaml

from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.refine.settings import RefineSettings
from scripts.training.prior.job import select_targets
from scripts.training.prior.losses import LossWeights
from scripts.training.prior.options import check_options
from scripts.validation import ablation
from scripts.validation.ablation import KINDS, VARIANTS, ablate, slug, words, write_pack
from scripts.validation.ablation_page import FULL, PAPER_CD, SCORES, ablation_page
from tests.helpers.tiny_run import TINY

SIZES = {"shapes": 30, "epochs": 6, "cases": 10, "seed": 0}
SMALL = {key: value for key, value in TINY.items() if not key.startswith(("max_", "val_", "held_"))}


def test_each_variant_is_of_options_that_there_are():
    assert set(PAPER_CD) <= set(VARIANTS) and not VARIANTS[FULL].training and not VARIANTS[FULL].refine
    for variant in VARIANTS.values():
        check_options(**variant.training)
        LossWeights(**variant.training.get("loss_weights", {}))
        RefineSettings.load(**variant.refine)
    said, folders = {words(variant) for variant in VARIANTS.values()}, {slug(name) for name in VARIANTS}
    assert len(said) == len(folders) == len(VARIANTS)
    assert words(VARIANTS["no normals"]) == "--loss_weights {normal: 0.0}"


def test_a_variant_s_pack_is_the_organ_s_with_the_fit_alone_and_a_prior_of_its_own_where_it_trains_one(tmp_path):
    own = OrganPack.load("hippocampus")
    target = select_targets(own, None)[0]
    trained = OrganPack.load(write_pack(own, target, tmp_path / "trained", {}))
    hard = OrganPack.load(write_pack(own, target, tmp_path / "hard", {"keep_share": 0.5}))
    for made, folder, share in ((trained, "trained", 1.0), (hard, slug(FULL), 0.5)):
        assert made.labels == own.labels and made.split == {"train": own.split["train"]} and not made.default
        assert made.structures[0].prior.resolve() == tmp_path / folder / target.prior.name
        settings = RefineSettings.of_pack(made)["hippocampus"]
        assert (settings.fusion, settings.gate, settings.keep_share) == (False, False, share)
        assert settings.loss_scale_mm == RefineSettings.of_pack(own)["hippocampus"].loss_scale_mm


def summary(cd):
    """Scores that fall from variant to variant, but for CD, which is given."""
    found = {}
    for number, name in enumerate(VARIANTS):
        ends = (math.nan,) * 3 if name == FULL else (-1.0 * number, -1.5, 0.5)
        compared = dict(zip(("difference", "difference_low", "difference_high"), ends, strict=True))
        for metric in SCORES:
            mean = cd.get(name, 1.0) if metric == "cd" else 90.0 - number
            found[name, metric] = {"mean": mean, "failed": 0.0, **compared}
    return found


def test_the_page_has_all_variants_with_intervals_and_compares_the_order():
    worse, agreed = ({FULL: full, **dict(zip(list(PAPER_CD)[1:], (0.2, 0.3, 0.4), strict=True))} for full in (9.0, 0.1))
    changes = {name: words(variant) for name, variant in VARIANTS.items()}
    summaries = dict(zip(KINDS, (summary(worse), summary(agreed)), strict=True))
    text = ablation_page("hippocampus", "python -m scripts ablate", SIZES, 10, changes, summaries)
    for name in VARIANTS:
        assert text.count(f"\n| {name} |") == len(KINDS) + 1 + (name in PAPER_CD)
    assert "| all parts | 90.0 | 90.00 |" in text and "| no hyper code | 89.0 (-1.0 [-1.5, +0.5]) |" in text
    assert "same 30 label maps of the training part for 300 steps" in text and "same 10 label maps" in text
    assert "| all parts | 0.232 | 0.128 | 0.417 | 9.000 | 0.100 |" in text and "nan" not in text
    assert "on true masks, best first: no hyper code, no instance code, no code, all parts." in text
    assert "errors, best first: all parts, no hyper code, no instance code, no code: the paper's" in text


def test_a_run_trains_once_and_goes_on(organ, tmp_path, monkeypatch):
    """Six ellipsoids to learn from, two to fit; one training fails; the second run repeats that one alone."""
    pack, data = organ
    chosen = "hard TIM 50 %, no code,no hyper code"
    jobs, run = [], ablation.run_job

    def run_small(job, **given):
        jobs.append(job)
        if job == "train_prior" and given["run_dir"].name == slug("no code"):
            raise SystemExit("it did not work")
        run(job, **(given | SMALL if job == "train_prior" else given))

    monkeypatch.setattr(ablation, "run_job", run_small)
    options = {"variants": chosen, "shapes": 6, "epochs": 1, "cases": 2, "processes": 1, "device": "cpu"}
    page = ablate(str(data), str(pack), str(tmp_path / "out"), **options)
    priors = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "packs").glob("*/egg.safetensors")}
    assert {file.parent.name for file in priors} == {slug(FULL), slug("no hyper code")}
    beta = ShapePrior.load(tmp_path / "out" / "packs" / slug("no hyper code") / "egg.safetensors")
    assert not beta.split_codes(beta.code_mean)[1].any()
    text = open(page).read()
    assert "same 6 label maps" in text and "same 2 label maps" in text and "| hard TIM 50 % |" in text
    assert "--variants 'all parts,no hyper code,no code,hard TIM 50 %'" in text and "no normals" not in text
    assert text.count("| no code | its training failed |") == 2
    assert "| no code | 0.342 | 0.188 | 0.621 | – | – |" in text
    assert jobs.count("train_prior") == 3 and jobs.count("refine") == 2 * 3
    jobs.clear()
    ablate(str(data), str(pack), str(tmp_path / "out"), **options)
    assert jobs.count("train_prior") == 1 and jobs.count("refine") == 2 * 3 and open(page).read() == text
    assert priors == {file: file.stat().st_mtime_ns for file in priors}
    with pytest.raises(ValueError, match="ablation.json was made with another shapes: give another --output_dir"):
        ablate(str(data), str(pack), str(tmp_path / "out"), **(options | {"shapes": 5}))


def test_without_a_prior_of_the_whole_method_there_is_no_comparison(organ, tmp_path, monkeypatch):
    def fail(job, **given):
        raise SystemExit("it did not work")

    monkeypatch.setattr(ablation, "run_job", fail)
    with pytest.raises(SystemExit, match="it did not work"):
        ablate(str(organ[1]), str(organ[0]), str(tmp_path / "out"))


def test_what_makes_no_sense_is_refused(organ, tmp_path):
    pack, data = organ
    with pytest.raises(ValueError, match="--shapes of at least 2"):
        ablate(str(data), str(pack), str(tmp_path), shapes=1)
    with pytest.raises(ValueError, match="unknown variants no cod; there are all parts, no hyper code"):
        ablate(str(data), str(pack), str(tmp_path), variants="no cod")
    several = yaml.safe_load((pack / "organ.yaml").read_text())
    several |= {"name": "eggs", "labels": {1: "egg", 2: "other"}}
    several["structures"] = [{"name": "egg", "labels": [1]}, {"name": "other", "labels": [2]}]
    (tmp_path / "eggs").mkdir()
    (tmp_path / "eggs" / "organ.yaml").write_text(yaml.safe_dump(several))
    with pytest.raises(ValueError, match="'eggs' has 2 priors: give --label, one of egg, other"):
        ablate(str(data), str(tmp_path / "eggs"), str(tmp_path / "out"))
    del several["split"]["validation"]
    (tmp_path / "eggs" / "organ.yaml").write_text(yaml.safe_dump(several))
    with pytest.raises(ValueError, match="organ.yaml: ablate needs a split with cases under train and validation"):
        ablate(str(data), str(tmp_path / "eggs"), str(tmp_path / "out"), label="egg")
