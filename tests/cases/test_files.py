import json

import pytest

from scripts.cases.files import whole_file


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with whole_file(target) as temporary:
        temporary.write_text(json.dumps([1]))
        assert target.read_text() == "old"
    assert json.loads(target.read_text()) == [1] and len(list(tmp_path.iterdir())) == 1
