"""The metadata agree with themselves, with requirements.txt and with the organ pack they describe."""

import json
import re
import shutil
from pathlib import Path

import pytest
from monai.bundle import verify_metadata

from scripts.organ.pack import OrganPack

HOST_FIELDS = (
    "schema version monai_version pytorch_version numpy_version required_packages_version task description authors "
    "copyright network_data_format"
).split()


@pytest.fixture(scope="module")
def metadata(bundle_root: Path) -> dict:
    return json.loads((bundle_root / "configs" / "metadata.json").read_text())


def requirements(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text().splitlines())
    pins = (line.split("==") for line in lines if line and not line.startswith(("#", "-")))
    return {name: version for name, version in pins}


def test_top_level_copy_is_equal(bundle_root):
    assert (bundle_root / "metadata.json").read_bytes() == (bundle_root / "configs" / "metadata.json").read_bytes()


def test_fields_of_hosts_are_there(metadata):
    assert [field for field in HOST_FIELDS if not metadata.get(field)] == []


def test_version_is_newest_of_changelog(metadata):
    def key(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    assert metadata["version"] == max(metadata["changelog"], key=key)


def test_versions_are_those_of_requirements(bundle_root, metadata):
    pins = requirements(bundle_root / "requirements.txt")
    named = {
        "torch": metadata["pytorch_version"],
        "monai": metadata["monai_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    assert named == pins


def test_channels_are_those_of_the_default_organ(metadata):
    pack = OrganPack.load("hippocampus")
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    inputs = metadata["network_data_format"]["inputs"]["image"]
    assert outputs["channel_def"] == {"0": "background", **{str(v): name for v, name in pack.labels.items()}}
    assert outputs["num_channels"] == pack.network["out_channels"]
    assert inputs["num_channels"] == pack.network["in_channels"]
    assert inputs["spatial_shape"] == list(pack.patch_size.infer)
    assert inputs["modality"] == pack.modality


def test_verify_metadata_offline(bundle_root, tmp_path):
    schema = tmp_path / "schema.json"
    shutil.copy(bundle_root / "configs" / "metadata.schema.json", schema)
    verify_metadata(meta_file=str(bundle_root / "configs" / "metadata.json"), filepath=str(schema))


@pytest.mark.parametrize("field", HOST_FIELDS[1:])
def test_schema_refuses_metadata_without_a_field(bundle_root, metadata, tmp_path, field):
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps({key: value for key, value in metadata.items() if key != field}))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(broken), filepath=str(bundle_root / "configs" / "metadata.schema.json"))


def test_schema_refuses_outputs_without_channel_def(bundle_root, metadata, tmp_path):
    broken = json.loads(json.dumps(metadata))
    del broken["network_data_format"]["outputs"]["pred"]["channel_def"]
    (tmp_path / "metadata.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(
            meta_file=str(tmp_path / "metadata.json"), filepath=str(bundle_root / "configs" / "metadata.schema.json")
        )


def test_every_package_is_pinned(bundle_root):
    for file in ("requirements.txt", "requirements-cohort.txt", "requirements-dicom.txt", "requirements-dev.txt"):
        for line in (bundle_root / file).read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ ]*", line), f"{file}: {line}"
