"""A U-Net starts from another organ's: what fits is taken over, the output layer is new."""

import dataclasses
import logging

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.organ.pack import OrganError, OrganPack
from scripts.unet.network import build_unet
from scripts.unet.transfer import start_unet
from tests.helpers.small_pack import write_pack
from tests.unet.test_network import DYNUNET, UNET

PACK = OrganPack.load("hippocampus")
BASIC = {"name": "BasicUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "features": [4, 4, 8, 8, 8, 4]}
OUTPUTS = {"DynUNet": "output_block.", "UNet": "model.2.", "BasicUNet": "final_conv."}


def pack_with(network, **changes):
    """The pack of the hippocampus with another network, of as many labels as this has outputs."""
    own = {**network, **changes}
    labels = {value: f"part_{value}" for value in range(1, own["out_channels"])}
    return dataclasses.replace(PACK, network=own, labels=labels)


def saved(pack, file):
    torch.manual_seed(1)
    network = build_unet(pack)
    torch.save(network.state_dict(), file)
    return network.state_dict()


@pytest.mark.parametrize("outputs", [3, 5])
@pytest.mark.parametrize("make", [DYNUNET, UNET, BASIC], ids=["DynUNet", "UNet", "BasicUNet"])
def test_all_but_the_output_layer_is_taken_over(tmp_path, caplog, make, outputs):
    theirs = saved(pack_with(make), tmp_path / "other.pt")
    torch.manual_seed(2)
    with caplog.at_level(logging.INFO):
        started = start_unet(pack_with(make, out_channels=outputs), tmp_path / "other.pt").state_dict()
    head = OUTPUTS[make.get("name", "UNet")]
    learned = [name for name, value in started.items() if value.numel() > 1 and value.std() > 0]
    assert any(name.startswith(head) for name in learned)
    for name in learned:
        same = theirs[name].shape == started[name].shape and torch.equal(theirs[name], started[name])
        assert same != (name.startswith(head) and not name.startswith("model.2.1.conv.unit0.adn")), name
    assert "tensors taken over from" in caplog.text and "the output layer is new" in caplog.text


def test_of_a_wider_network_only_what_fits_is_taken_over(tmp_path, caplog):
    saved(pack_with(DYNUNET), tmp_path / "other.pt")
    with caplog.at_level(logging.INFO):
        start_unet(pack_with(DYNUNET, filters=[4, 8, 16]), tmp_path / "other.pt")
    taken, of = (int(word) for word in caplog.text.split() if word.isdigit())
    assert 0 < taken < of - 2  # its deepest layers are new, too


def test_without_init_the_network_is_drawn_as_before():
    torch.manual_seed(3)
    one = build_unet(pack_with(UNET)).state_dict()
    torch.manual_seed(3)
    other = start_unet(pack_with(UNET)).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_started_from_is_refused(tmp_path):
    pack = pack_with(UNET)
    saved(pack_with(DYNUNET), tmp_path / "other.pt")
    with pytest.raises(OrganError, match="none of its .* tensors fits the U-Net of 'hippocampus': describe a network"):
        start_unet(pack, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(OrganError, match="text.pt holds no weights"):
        start_unet(pack, tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(OrganError, match="holds no weights by name"):
        start_unet(pack, tmp_path / "list.pt")
    with pytest.raises(OrganError, match="--init nothing: neither a file of weights nor an organ of models/"):
        start_unet(pack, "nothing")
    write_pack(tmp_path / "boxes")
    with pytest.raises(OrganError, match="this organ has no trained U-Net"):
        start_unet(pack, tmp_path / "boxes")


def test_an_organ_s_own_weights_are_left_aside_where_another_s_are_asked_for(bundle_root):
    parser = ConfigParser()
    parser.read_config(str(bundle_root / "configs" / "train.yaml"))
    parser["bundle_root"] = str(bundle_root)
    assert parser.get_parsed_content("finetune")
    parser["init"] = "thorax"
    parser.ref_resolver.reset()
    assert not parser.get_parsed_content("finetune") and parser.get_parsed_content("learning_rate") == 1.5e-3
