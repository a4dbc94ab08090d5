import dataclasses

import pytest
import torch

from scripts.organ.pack import OrganError, OrganPack
from scripts.unet.network import FlipAveragingInferer, TrainingInferer, build_unet, fitted, own_network, steps_of
from tests.helpers.small_pack import write_pack

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
        ({**UNET, "name": "VNet"}, "name must be one of UNet, DynUNet, BasicUNet, not 'VNet'"),
        ({**UNET, "chanels": [4, 8]}, "network: unknown key 'chanels': did you mean 'channels'"),
        ({**UNET, "strides": []}, "UNet cannot be built so"),
        ({"name": "UNet"}, "out_channels must be a whole number"),
        ({**UNET, "out_channels": 5}, "needs the labels 1 to 4"),
    ],
)
def test_a_network_that_cannot_be_built_is_named(arguments, message):
    with pytest.raises(OrganError, match=message):
        build_unet(dataclasses.replace(PACK, network=arguments))


def test_network_of_another_organ_is_used_in_place_of_the_host_s(tmp_path):
    pack = OrganPack.load(write_pack(tmp_path / "boxes"))
    with pytest.raises(OrganError, match="model.pt does not hold the weights"):
        own_network(build_unet(pack), pack, "cpu")
    trained = build_unet(pack).eval()
    torch.save(trained.state_dict(), tmp_path / "boxes" / "model.pt")
    loaded = own_network(build_unet(pack), pack, "cpu")
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        done = FlipAveragingInferer(-1, own_network=loaded, exact=True)(image, lambda x: x / 0)
        torch.testing.assert_close(done, trained(image))
    assert own_network(torch.nn.Identity(), OrganPack.load("hippocampus"), "cpu") is None


def test_a_window_is_no_larger_than_the_image_needs():
    assert fitted((96, 40, -1), (33, 200, 50), (16, 16, 16)) == (48, 40, 64)
    assert fitted(64, (64, 65, 1), (16, 16, 8)) == (64, 64, 16)
    assert fitted(16, (1, 1, 1), (16, 16, 16)) == (16, 16, 16)
    seen = []

    def network(image):
        seen.append(tuple(image.shape))
        return 2 * image

    image = torch.rand(1, 1, 17, 40, 30)
    inferer = FlipAveragingInferer((64, 32, 64), exact=True, steps=(16, 16, 16))
    torch.testing.assert_close(inferer(image, network), 2 * image)
    assert seen == [(1, 1, 32, 32, 32)] * 2


def unet_of(name: str, levels: int) -> dict:
    """A U-Net whose first stride is that of thick slices."""
    known = {"name": name, "spatial_dims": 3, "in_channels": 1, "out_channels": 3}
    strides = [[2, 2, 1], *[2] * (levels - 2)]
    if name == "BasicUNet":
        return known | {"features": [4] * 6, "norm": ["instance", {"affine": True}]}
    if name == "UNet":
        return known | {"channels": [4] * levels, "strides": strides}
    more = {"kernel_size": [3] * levels, "strides": [1, *strides], "upsample_kernel_size": strides}
    return known | {"filters": [4] * levels, **more}


@pytest.mark.parametrize("name, levels", [("UNet", 3), ("UNet", 6), ("DynUNet", 5), ("DynUNet", 7), ("BasicUNet", 5)])
@pytest.mark.parametrize("shape", [(3, 5, 2), (40, 50, 33)])
@pytest.mark.parametrize("window", [128, -1])
def test_every_u_net_sees_images_smaller_than_its_window(name, levels, shape, window):
    pack = dataclasses.replace(PACK, network=unet_of(name, levels))
    network, steps = build_unet(pack).eval(), steps_of(pack.network)
    assert name == "BasicUNet" or steps == (2 ** (levels - 1), 2 ** (levels - 1), 2 ** (levels - 2))
    with torch.no_grad():
        assert FlipAveragingInferer(window, steps=steps)(torch.rand(1, 1, *shape), network).shape == (1, 3, *shape)


@pytest.mark.parametrize("known", [{"avx512_bf16": True}, {"amx_bf16": True}, {"avx2": True}])
def test_a_u_net_computes_in_bfloat16_where_the_processor_does(monkeypatch, known):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    network, image = build_unet(dataclasses.replace(PACK, network=UNET)).eval(), torch.rand(1, 1, 16, 8, 16)
    found, exact = TrainingInferer()(image, network), network(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)
    assert torch.equal(found, exact) == ("avx2" in known)
    with torch.no_grad():
        used, plain = (FlipAveragingInferer((16, 8, 16), exact=one)(image, network) for one in (False, True))
    assert used.dtype == torch.float32 and torch.equal(used, plain) == ("avx2" in known)
    torch.testing.assert_close(plain, exact)
    torch.testing.assert_close(used, exact, rtol=0.05, atol=0.05)
    found.sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in network.parameters())
