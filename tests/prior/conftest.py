"""Fixtures of the prior's tests."""

import pytest
import yaml

from .shapes import ellipsoid_radii, write_ellipsoids


@pytest.fixture(scope="package")
def organ(tmp_path_factory):
    """An organ pack with a split, and the folder that holds its label maps and cached samples."""
    cache = tmp_path_factory.mktemp("data")
    train = write_ellipsoids(cache / "labels", ellipsoid_radii(6, seed=0))
    held_out = write_ellipsoids(cache / "labels", ellipsoid_radii(2, seed=1), first=6)
    pack = tmp_path_factory.mktemp("pack")
    settings = {
        "name": "egg",
        "labels": {1: "egg"},
        "structures": [{"name": "egg", "labels": [1]}],
        "split": {"train": [f.name for f in train], "validation": [f.name for f in held_out]},
        "provenance": {"licence": "none needed"},
    }
    (pack / "organ.yaml").write_text(yaml.safe_dump(settings))
    return pack, cache
