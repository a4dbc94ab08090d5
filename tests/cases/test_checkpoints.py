"""Checkpoints appear whole or not at all, under the names that MONAI gives them."""

import pytest
import torch
from ignite.engine import Engine

from scripts.cases import checkpoints
from scripts.cases.checkpoints import ResumeLoader, WholeCheckpointSaver, halved


def run(folder, epochs=3):
    network = torch.nn.Linear(2, 1)
    saver = WholeCheckpointSaver(
        str(folder), {"network": network}, save_interval=1, n_saved=1, save_final=True, final_filename="final.pt"
    )
    engine = Engine(lambda *_: None)
    saver.attach(engine)
    engine.run([0], max_epochs=epochs)
    return network


def test_the_last_ones_are_kept_and_can_be_loaded(tmp_path):
    network = run(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["final.pt", "network_epoch=3.pt"]
    for file in tmp_path.iterdir():
        loaded = torch.load(file, weights_only=True)
        weight = loaded["network"]["weight"] if "network" in loaded else loaded["weight"]
        torch.testing.assert_close(weight, network.weight.detach())


def test_a_write_that_is_cut_off_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "final.pt").write_bytes(b"earlier")

    def cut_off(_, file):
        file.write_bytes(b"half of i")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.torch, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("final.pt", b"earlier")]


def test_a_layer_of_two_names_is_written_once_and_counts_stay_whole():
    layer = torch.nn.BatchNorm3d(2)
    written = halved(torch.nn.Sequential(layer, layer).state_dict())
    assert written["0.weight"] is written["1.weight"] and written["0.weight"] is not written["0.running_var"]
    assert written["0.weight"].dtype == written["0.running_var"].dtype == torch.float16
    layer.running_var[0] = 1e6  # too large for half precision
    assert halved(layer.state_dict())["running_var"].dtype == torch.float32
    assert written["0.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda file: file.write_text("no checkpoint"), "is no checkpoint"),
        (lambda file: torch.save({"weight": torch.zeros(1)}, file), "is no checkpoint.*network"),
        (lambda file: torch.save({"network": torch.nn.Linear(3, 1).state_dict()}, file), "is no checkpoint.*Linear"),
    ],
)
def test_a_run_does_not_go_on_from_a_file_of_another(tmp_path, write, reason):
    file = tmp_path / "checkpoint.pt"
    write(file)
    with pytest.raises(ValueError, match=f"^--resume {file} {reason}"):
        ResumeLoader(str(file), {"network": torch.nn.Linear(2, 1), "average": torch.nn.Linear(2, 1)})(Engine(print))


def test_a_run_that_has_had_its_epochs_asks_for_more(tmp_path):
    engine = Engine(lambda *_: None)
    engine.run([0], max_epochs=3)
    file = tmp_path / "checkpoint.pt"
    torch.save({"network": torch.nn.Linear(2, 1).state_dict(), "trainer": engine.state_dict()}, file)
    again = Engine(lambda *_: None)
    again.state.max_epochs = 2
    with pytest.raises(ValueError, match="has had 3 epochs: give a larger --max_epochs"):
        ResumeLoader(str(file), {"network": torch.nn.Linear(2, 1), "trainer": again})(again)
