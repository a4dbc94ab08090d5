"""Two processes on the CPU train one prior: same weights in both, one prior written."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from scripts.prior.prior import ShapePrior
from scripts.shapes.preparation import prepare
from scripts.training.prior.points import EpochSampler, ShapePointsDataset
from tests.helpers.ellipsoid_files import EGG, ellipsoid_radii, write_ellipsoids
from tests.helpers.tiny_run import SETTINGS, TINY

CASES = 5  # of six


@pytest.fixture(scope="module")
def trained(bundle_root, organ, tmp_path_factory):
    """A finished run of two processes, and its folder: `rank<number>.pt`, `run/` and `written/`."""
    pack, cache = organ
    folder = tmp_path_factory.mktemp("two")
    spy = {
        "finalize": [
            f"$torch.save(@field_with_codes.state_dict(), '{folder}/rank' + str(dist.get_rank()) + '.pt')",
            "$@folder_lock and @folder_lock.release()",
            "$dist.destroy_process_group()",
        ]
    }
    (folder / "spy.yaml").write_text(yaml.safe_dump(spy))
    configs = [f"configs/{name}.yaml" for name in ("train_prior", "multi_gpu_train_prior")]
    options = {
        **TINY,
        "max_epochs": 2,
        "train_cases": CASES,
        "dataset_dir": cache / "labels",
        "cache_dir": folder / "samples",
        "organ": pack,
        "run_dir": folder / "run",
        "output_file": folder / "written" / "prior.safetensors",
    }
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle"]
    line += ["run", "--config_file", str([*configs, str(folder / "spy.yaml")])]
    for name, value in options.items():
        line += [f"--{name}", str(value)]
    done = subprocess.run(line, cwd=bundle_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, folder


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(trained):
    done, folder = trained
    states = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert [p.name for p in (folder / "written").iterdir()] == ["prior.safetensors"]
    prior = ShapePrior.load(folder / "written" / "prior.safetensors")
    for name, value in prior.field.state_dict().items():
        assert torch.equal(value, states[0][f"field.{name}"].cpu().half().float()), name  # as it is stored
    run = sorted(p.name for p in (folder / "run" / "egg").iterdir())
    assert [name.split(".")[0] for name in run] == ["checkpoint_final", "curves", "events", "report", "shapes"]
    assert done.stderr.count("held-out shapes:") + done.stdout.count("held-out shapes:") == 1  # after epoch 2, rank 0


@pytest.mark.slow
def test_two_processes_learn_from_as_many_cases_as_asked_for(trained):
    _, folder = trained
    card = ShapePrior.load(folder / "written" / "prior.safetensors").card
    assert card["n_cases"] == card["n_shapes"] == CASES


def test_processes_share_the_shapes_and_draw_points_of_their_own(tmp_path):
    files = write_ellipsoids(tmp_path / "labels", ellipsoid_radii(3, seed=0))
    shapes = prepare(files, EGG, tmp_path / "cache", SETTINGS).train
    both = [ShapePointsDataset(shapes, 60, seed=5, rank=rank) for rank in (0, 1)]
    orders = [list(EpochSampler(dataset, 7, 2, rank)) for rank, dataset in enumerate(both)]
    whole = list(EpochSampler(both[0], 14))
    assert orders == [whole[0::2], whole[1::2]]
    counts = np.bincount(whole)
    assert counts.max() - counts.min() <= 1
    assert not torch.equal(both[0][0]["points"], both[1][0]["points"])
