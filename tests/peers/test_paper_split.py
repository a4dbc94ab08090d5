"""A split by sorted name, as docs/paper_data.md writes it into a copied pack."""

import shutil

import pytest

from scripts.organ.pack import MODELS, OrganPack
from tests.helpers.paper_split import write_split


@pytest.mark.parametrize("organ", ["liver", "pancreas", "lung_lobes"])
def test_a_split_is_written_into_a_copied_pack(organ, tmp_path):
    shutil.copytree(MODELS / organ, tmp_path / organ)
    before = OrganPack.load(tmp_path / organ)
    (tmp_path / "labels").mkdir()
    for number in range(7):
        (tmp_path / "labels" / f"case_{number}.nii.gz").write_bytes(b"")
    write_split(tmp_path / organ, tmp_path / "labels", [4, 1, 2])
    pack = OrganPack.load(tmp_path / organ)
    assert [list(map(str, pack.split[part])) for part in ("train", "validation", "test")] == [
        [f"case_{number}.nii.gz" for number in part] for part in (range(4), range(4, 5), range(5, 7))
    ]
    assert pack.structures == before.structures and pack.labels == before.labels
    assert pack.intensity == before.intensity and pack.sources == before.sources
    with pytest.raises(SystemExit, match="has 7 label maps, not 9"):
        write_split(tmp_path / organ, tmp_path / "labels", [6, 1, 2])
