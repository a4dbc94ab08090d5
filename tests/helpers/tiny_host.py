"""A host in small, run as a program: it treats the inference config as MONAI Label's `BundleInferTask` does.

For every request it sets the options, parses the config anew, replaces `device` by a text, builds preprocessing,
inferer and postprocessing one after the other, and before each of them forgets the package `scripts`, which can be
imported at these moments only. It holds one network, that of models/model.pt.

Reads {"bundle": path, "requests": [{"image": path, "mode": "no_grad" or "inference_mode", further options}]} from
standard input; writes one answer a request: the result, the mask's voxels, and what was raised.
"""

import base64
import json
import sys

import torch
from monai.bundle import ConfigItem, ConfigParser
from monai.transforms import Compose, MapTransform


class TinyHost:
    def __init__(self, bundle):
        self.bundle = bundle
        self.config = ConfigParser()
        self.config.read_config(f"{bundle}/configs/inference.yaml")
        self.config.config["bundle_root"] = bundle
        self.network = self.build("network_def")
        self.network.load_state_dict(torch.load(f"{bundle}/models/model.pt", weights_only=True))
        self.network.eval()
        self.displayed = self.config.get_parsed_content("displayable_configs")
        self.options = {}
        self.options.update(self.displayed)

    def build(self, key):
        """Parse one part of the config with the bundle's own `scripts`."""
        sys.path.insert(0, self.bundle)
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
        part = self.config.get_parsed_content(key)
        sys.path.remove(self.bundle)
        return part

    def infer(self, image, mode, **options):
        options = {**self.options, **options}
        device = options.pop("device", "cpu")
        data = {**options, "device": device, "image": image, "image_path": image}
        self.config["displayable_configs"].update({key: options[key] for key in self.displayed.keys()})
        self.config.parse()
        self.config.config["device"] = device
        self.config.ref_resolver.items["device"] = ConfigItem(config=device, id="device")
        data = self.run("preprocessing", data)
        with torch.no_grad():
            data["pred"] = self.build("inferer")(torch.as_tensor(data["image"])[None], self.network)[0]
        with getattr(torch, mode)():
            return self.run("postprocessing", data)

    def run(self, key, data):
        chain = self.build(key)
        assert isinstance(chain, Compose) and isinstance(chain.transforms[0], MapTransform)
        for transform in chain.transforms:
            assert not isinstance(transform, Compose), "hosts look for what they replace at the top only"
            data = transform(data)
        return data


def answer(host, request):
    try:
        data = host.infer(**request)
    except Exception as error:
        bases = [f"{base.__module__}.{base.__name__}" for base in type(error).__mro__]
        return {"error": str(error), "status_code": getattr(error, "status_code", None), "bases": bases}
    mask = data["pred"]
    voxels = base64.b64encode(torch.as_tensor(mask).numpy().tobytes()).decode()
    return {"result": data["result"], "dtype": str(mask.dtype), "shape": list(mask.shape), "voxels": voxels}


if __name__ == "__main__":
    task = json.load(sys.stdin)
    tiny_host = TinyHost(task["bundle"])
    print(json.dumps([answer(tiny_host, request) for request in task["requests"]]))
