"""docs/examples/label/organ_bundle.py: a copy of the bundle that is for one organ alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, verify_metadata

from scripts.organ.pack import OrganPack
from scripts.unet.network import build_unet


def make(bundle_root: Path, organ: str, folder: Path) -> subprocess.CompletedProcess:
    script = bundle_root / "docs" / "examples" / "label" / "organ_bundle.py"
    return subprocess.run([sys.executable, script, organ, folder], capture_output=True, text=True)


@pytest.mark.parametrize("organ", ["hippocampus", "thorax", "brain"])
def test_copy_is_a_bundle_of_that_organ(bundle_root, tmp_path, organ):
    done = make(bundle_root, organ, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    pack = OrganPack.load(tmp_path / "copy" / "models" / organ)
    metadata_file = tmp_path / "copy" / "configs" / "metadata.json"
    metadata = json.loads(metadata_file.read_text())
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    assert outputs["channel_def"] == {"0": "background", **{str(v): name for v, name in pack.labels.items()}}
    assert outputs["num_channels"] == pack.network["out_channels"]
    verify_metadata(meta_file=str(metadata_file), filepath=str(bundle_root / "configs" / "metadata.schema.json"))

    # to its own scripts; for those of this bundle it is a copy
    assert yaml.safe_load(pack.file.read_text())["default"] is True and not pack.default
    assert [folder.name for folder in (tmp_path / "copy" / "models").iterdir() if folder.is_dir()] == [organ]
    weights = torch.load(tmp_path / "copy" / "models" / "model.pt", weights_only=True)
    build_unet(pack).load_state_dict(weights)
    assert all(structure.prior.is_file() for structure in pack.structures)
    configs = tmp_path / "copy" / "configs"
    for name in ("evaluate", "refine", "train", "train_prior"):
        config = ConfigParser.load_config_file(configs / f"{name}.yaml")
        assert config["organ"] == organ


def test_organ_without_network_is_refused(bundle_root, tmp_path):
    lacking = next(
        pack.parent.name
        for pack in sorted((bundle_root / "models").glob("*/organ.yaml"))
        if not yaml.safe_load(pack.read_text()).get("network")
    )
    done = make(bundle_root, lacking, tmp_path / "copy")
    assert done.returncode != 0 and f"{lacking}/model.pt is missing" in done.stderr
    assert not (tmp_path / "copy").exists()
