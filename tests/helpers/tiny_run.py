"""The training workflow with settings that take seconds."""

from monai.bundle import ConfigWorkflow

from scripts.prior.prior import ShapePrior

TINY = {
    "hidden": 32,
    "layers": 4,
    "warm_up_steps": 60,
    "max_epochs": 4,
    "epoch_length": 20,
    "batch_size": 6,
    "n_points": 150,
    "grid_size": 14,
    "picct_points": 150,
    "held_out_steps": 40,
    "val_interval": 2,
    "val_steps": 20,
    "workers": 1,
    "sample_settings#n_surface": 2000,
    "sample_settings#n_free": 2000,
    "sample_settings#box_points": 4000,
}
SETTINGS = {"n_surface": 2000, "n_free": 2000, "box_points": 4000, "grid_size": 14, "picct_points": 150}


def workflow(bundle_root, folder, organ, cache, overlays=(), **changes):
    """The training workflow with tiny settings and overlays of its config; its results go to `folder`."""
    given = {**TINY, "dataset_dir": str(cache / "labels"), "cache_dir": str(cache / "samples")}
    given |= {"output_file": str(folder / "prior.safetensors"), **changes}
    return ConfigWorkflow(
        config_file=[str(bundle_root / "configs" / f"{name}.yaml") for name in ("train_prior", *overlays)],
        meta_file=None,
        logging_file=False,
        workflow_type="train",
        organ=str(organ),
        run_dir=str(folder / "run"),
        **given,
    )


def run(*args, **changes) -> ShapePrior:
    job = workflow(*args, **changes)
    job.initialize()
    job.run()
    job.finalize()
    return ShapePrior.load(args[1] / "prior.safetensors")
