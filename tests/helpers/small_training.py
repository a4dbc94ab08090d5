"""`configs/train.yaml`, run in this process."""

from monai.bundle import ConfigWorkflow


def training(bundle_root, data, pack, output, overlays=(), **options):
    """Return the workflow, initialized."""
    configs = [str(bundle_root / "configs" / name) for name in ("train.yaml", *overlays)]
    workflow = ConfigWorkflow(
        config_file=configs,
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        workflow_type="train",
        bundle_root=str(bundle_root),
        dataset_dir=str(data),
        organ=str(pack),
        run_dir=str(output / "logs"),
        output_dir=str(output),
        device="$torch.device('cpu')",
        **options,
    )
    workflow.initialize()
    return workflow


def train(bundle_root, data, pack, output, overlays=(), **options):
    """Run the config in this process; return the workflow."""
    workflow = training(bundle_root, data, pack, output, overlays, **options)
    workflow.run()
    workflow.finalize()
    return workflow
