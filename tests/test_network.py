import dataclasses

import pytest
import torch

from scripts.network import build_unet
from scripts.organ import OrganError, OrganPack

PACK = OrganPack.load("hippocampus")
DYNUNET = {
    "name": "DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "filters": [4, 8, 8],
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
}
UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}


@pytest.mark.parametrize("arguments", [DYNUNET, UNET, {"name": "UNet", **UNET}])
def test_a_pack_chooses_its_network(arguments):
    network = build_unet(dataclasses.replace(PACK, network=arguments)).eval()
    assert type(network).__name__ == arguments.get("name", "UNet")
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 8, 16)).shape == (1, 3, 16, 8, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no U-Net"),
        ({**UNET, "name": "VNet"}, "'VNet' is not one of"),
        ({**UNET, "out_channels": 5}, "needs the labels 1 to 4"),
    ],
)
def test_a_network_that_cannot_be_built_is_named(arguments, message):
    with pytest.raises(OrganError, match=message):
        build_unet(dataclasses.replace(PACK, network=arguments))
