"""The report of a prior's training."""

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scripts.prior.field import DeformTemplateField
from scripts.prior.prior import ShapePrior
from scripts.report.prior_report import curves_figure, mean_shape, write_report
from scripts.training.prior.network import warm_up_template
from tests.helpers.spheres import sphere_linear

FIGURES = {"n": 2, "dice_mean": 0.95, "dice_min": 0.94, "cd_mean": 0.31, "cd_max": 0.4}
NONE = {"n": 0, "dice_mean": None, "dice_min": None, "cd_mean": None, "cd_max": None}
CARD = {
    "organ": "ball",
    "structure": "left",
    "n_cases": 4,
    "n_shapes": 8,
    "anchor": "a.nii.gz",
    "dice_training": {"mean": 0.98, "min": 0.97, "n": 4},
    "held_out": {"codes": FIGURES, "codes_and_weights": FIGURES, "cd_noise_floor": 0.2},
    "skipped": {"b.nii.gz": "holds none of the labels [1]"},
    "cut": {"c.nii.gz": 0.034},
}


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    field = DeformTemplateField(hidden=24, layers=3, code_dim=2, hyper_code_dim=2, rank=2)
    warm_up_template(field, sphere_linear(), steps=150, n_points=400)
    none, size = torch.zeros(0, 3), 4
    return ShapePrior(field, None, none, none, none, 20.0, torch.zeros(size), torch.eye(size), None, CARD)


def test_figures_and_reasons_are_told(prior, tmp_path):
    curves = {
        "loss/total": [(50, 9.0), (100, 4.0)],
        "held_out/dsc": [(50, 0.9), (100, 0.95)],
        "held_out/cd": [(50, 1.2), (100, 0.31)],
    }
    text = write_report(tmp_path / "run", prior, curves).read_text()
    assert "# Shape prior ball / left" in text and "4 cases, 8 shapes" in text
    assert "| training | own codes | 4 | 0.9800 | 0.9700 | – | – |" in text
    assert "| held out | codes only | 2 | 0.9500 | 0.9400 | 0.3100 | 0.4000 |" in text
    assert "| 100 | 0.9500 | 0.310 |" in text
    assert "- b.nii.gz: holds none" in text and "- c.nii.gz: 3.4% of its surface" in text
    for name in ("curves.png", "shapes.png"):
        assert f"({name})" in text
        picture = matplotlib.image.imread(tmp_path / "run" / name)[..., :3]
        assert (picture < 0.9).mean() > 0.01  # something is drawn


def test_a_run_without_held_out_shapes_has_a_report(prior, tmp_path):
    held_out = {"codes": NONE, "codes_and_weights": NONE, "cd_noise_floor": None}
    bare = ShapePrior(**{**vars(prior), "card": {**CARD, "held_out": held_out, "skipped": {}, "cut": {}}})
    text = write_report(tmp_path, bare, {"loss/total": [(50, 9.0)]}).read_text()
    assert "| held out | codes only | 0 | – | – | – | – |" in text and "Validation during" not in text


def test_the_report_ends_with_what_to_run_next(prior, tmp_path, caplog):
    curves = {"loss/total": [(50, 9.0)]}
    with caplog.at_level("INFO"):
        text = write_report(tmp_path, prior, curves, "my packs/ball", "data/labels", {"test": ["a.nii.gz"]}).read_text()
    commands = text.split("## What next?")[1].split("```")[1].splitlines()
    assert [line for line in commands if line.startswith("python")] == [
        "python -m scripts refine --dataset_dir MASKS/ --organ 'my packs/ball' --output_dir output/",
        "python -m scripts limits --organ 'my packs/ball' --label_dir UNSEEN_LABELS/ --split '' --output_dir limits/",
        "python -m scripts validate --organ 'my packs/ball' --label_dir data/labels --output_dir validation/",
    ]
    assert all(line in caplog.text for line in commands if line.startswith("python"))
    assert "What next" not in write_report(tmp_path, prior, curves).read_text()


def test_curves_do_not_blow_up_noise_and_the_legend_hides_none():
    steps = range(0, 500, 50)
    curves = {f"loss/{term}": [(step, 1.0 + n) for step in steps] for n, term in enumerate(["total", "sdf", "codes"])}
    curves |= {"held_out/dsc": [(step, 0.95 + 0.0001 * (step % 100)) for step in steps]}
    curves |= {"held_out/cd": [(step, 0.3 + 0.00001 * step) for step in steps]}
    figure = curves_figure(curves)
    FigureCanvasAgg(figure).draw()
    loss, cd, dsc = figure.axes
    assert loss.get_legend().get_window_extent().x0 >= loss.get_window_extent().x1
    assert loss.get_legend().get_window_extent().x1 <= cd.get_tightbbox().x0
    assert cd.get_ylim()[0] == 0.0 and cd.get_ylim()[1] > 0.304
    low, high = dsc.get_ylim()
    assert high - low >= 0.1 - 1e-9 and low < 0.95 and 0.96 < high <= 1.0


def test_mean_shape_is_the_ball(prior):
    mesh = mean_shape(prior)
    assert mesh.is_watertight
    assert np.linalg.norm(mesh.vertices, axis=1).mean() == pytest.approx(0.5, abs=0.05)
