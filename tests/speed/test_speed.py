"""Plain references against our own ways: the same results, and not slower than they were found to be.

The floors of the ratios are far below what is measured (docs/results/speed.md): they find a way that was lost, not a
machine that is busy.
"""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from matplotlib import image

from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.refine.settings import RefineSettings
from scripts.speed import job
from scripts.speed.alignment import alignment
from scripts.speed.compare import OtherResult, Task, compare
from scripts.speed.cost import Curve, curves_of, measure
from scripts.speed.counted import counted
from scripts.speed.field import field_on_grid
from scripts.speed.machine import Machine
from scripts.speed.mask import counts, distances
from scripts.speed.stacked import same_size, stacked_fit
from scripts.speed.training import Sizes, training_step

SMALL = Sizes(hidden=128, codes=32, hyper="low_rank", points=300)
TINY = replace(SMALL, hidden=16, points=40)


@pytest.fixture(scope="module")
def prior():
    return ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_training_step_needs_no_nested_autograd():
    assert compare(training_step(SMALL), 3).ratio > 1.5


def test_a_field_is_not_evaluated_everywhere(prior):
    assert compare(field_on_grid(prior, 64), 3).ratio > 1.5


def test_alignment_is_faster_than_pycpd_s(prior):
    assert compare(alignment(prior, 600), 1).ratio > 4.0


def test_distances_far_from_a_surface_are_not_computed(prior):
    assert compare(distances(prior, 160), 3).ratio > 2.0


def test_what_is_counted_of_a_mask_costs_as_much_as_its_surface(prior):
    assert compare(counts(prior, 160), 3).ratio > 2.0


def test_a_stack_is_fitted_like_its_structures(prior):
    settings = RefineSettings.load("default", OrganPack.load("hippocampus"), samples=200, code_steps=6, weight_steps=4)
    found = compare(stacked_fit([prior, prior], settings), 1)
    assert found.apart < 1e-3 and found.task.name == "fit of 2 structures"


@pytest.mark.parametrize("laplacian", [True, False])
def test_both_ways_give_one_loss_and_one_gradient(laplacian):
    task = training_step(TINY, laplacian, torch.float64)
    (plain, its_gradients), (ours, our_gradients) = task.run_plain(), task.run_ours()
    assert plain == pytest.approx(ours, rel=1e-10)
    single = training_step(SMALL, laplacian)
    (loss, theirs), (own_loss, own) = single.run_plain(), single.run_ours()
    assert loss == pytest.approx(own_loss, rel=1e-6)
    assert all(float((a - b).norm()) <= 1e-4 * float(a.norm()) + 1e-7 for a, b in zip(theirs, own, strict=True))
    assert len(its_gradients) == len(our_gradients) > 20
    for theirs, own in zip(its_gradients, our_gradients, strict=True):
        assert float((theirs - own).norm()) <= 1e-9 * float(theirs.norm()) + 1e-12


def test_cost_is_measured_against_points_shapes_voxels_and_structures(prior):
    settings = RefineSettings.load("default", OrganPack.load("hippocampus"), samples=50, code_steps=1, weight_steps=1)
    points, shapes, voxels, structures = curves_of(prior, [prior] * 3, settings)
    assert [curve.unit for curve in (points, shapes)] == ["points of a shape", "shapes"]
    assert min(voxels.tasks) == 32**3 and list(structures.tasks) == [1, 2, 3]
    found = measure(replace(voxels, tasks={size: voxels.tasks[size] for size in (32**3, 64**3)}))
    assert found[64**3].plain_s > 4 * found[32**3].plain_s and found[64**3].ratio > found[32**3].ratio


def test_other_results_are_refused():
    task = Task("sum", "slowly", "fast", lambda: 1.0, lambda: 1.5, lambda plain, ours: ours - plain, 0.4, "of it")
    with pytest.raises(OtherResult, match="sum: the results are 0.5 of it apart, more than 0.4"):
        compare(task, 1)
    ticks = []
    assert compare(replace(task, most=0.5), 2, lambda: ticks.append(1)).apart == 0.5 and len(ticks) == 4


def test_products_and_traffic_are_counted_with_those_of_the_gradient():
    left, right = torch.rand(10, 20, requires_grad=True), torch.rand(20, 30)
    with counted() as work:
        (left @ right).sum().backward()
    assert work.flop == 2 * 2 * 10 * 20 * 30
    with counted() as copy:
        right.t().clone()
    assert copy.moved == 2 * 4 * 20 * 30


def test_the_command_writes_the_ratios(tmp_path, monkeypatch):
    tiny = {n: partial(training_step, replace(TINY, points=n)) for n in (20, 40)}
    monkeypatch.setattr(job, "tasks_of", lambda organ: [training_step(TINY)])
    monkeypatch.setattr(job, "costs_of", lambda organ: [Curve("step", "points", tiny)])
    monkeypatch.setattr(Machine, "measured", classmethod(lambda cls, repeats: cls(50.0, 10.0)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        page = job.speed("hippocampus", str(tmp_path), repeats=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    told = json.loads((tmp_path / "speed.json").read_text())
    text, (row,) = open(page).read(), told["tasks"]
    assert "OMP_NUM_THREADS=1 python -m scripts speed --organ hippocampus" in text and "50 GFLOP/s" in text
    assert row["task"] in text and row["ratio"] > 0 and row["apart"] < 1e-4
    assert [(one["size"], one["unit"]) for one in told["costs"]] == [(20, "points"), (40, "points")]
    assert "| step; points: 40 | " in text and "](speed.png)" in text
    height, width, _ = image.imread(tmp_path / "speed.png").shape
    assert height > 500 and width > 500
    with pytest.raises(ValueError, match="repeats must be 1 or more"):
        job.speed("hippocampus", str(tmp_path), repeats=0)


def test_rates_of_the_machine_are_measured():
    machine = Machine.measured(1)
    assert 0.5 < machine.matrix_gflops < 1e5 and 0.1 < machine.memory_gbs < 1e4


def test_structures_of_the_same_sizes_are_stacked(monkeypatch):
    pack = OrganPack.load("brain")
    priors = [ShapePrior.load(file) for file in dict.fromkeys(one.prior for one in pack.structures)]
    assert len(same_size(priors)) == len(priors) > 1
