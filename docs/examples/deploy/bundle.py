"""The bundle's inference config, read from its folder or from an exported `model.ts`."""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle.utils import load_bundle_config


def find_bundle(path: Path) -> Path:
    """Return the bundle at a path or in a folder below it, as in a packaged application: its folder or a `model.ts`.

    Raises:
        FileNotFoundError: there is neither.
    """
    for place in (path, *sorted(path.glob("*")), *sorted(path.glob("*/*"))):
        if (place / "configs" / "inference.yaml").is_file() or (place.name == "model.ts" and place.is_file()):
            return place.resolve()
    raise FileNotFoundError(f"{path} holds neither a bundle (configs/inference.yaml) nor a model.ts: give -m BUNDLE")


class Bundle:
    """What of the bundle an application needs.

    The package `scripts` that the config refers to lies in the bundle's folder; for a `model.ts` elsewhere than in the
    bundle's models/, that folder must be on PYTHONPATH.

    Args:
        path: the bundle's folder or a `model.ts`.
        overrides: keys of configs/inference.yaml and their values.

    Raises:
        ValueError: what is asked for is not there: an organ, its U-Net or priors, a preset.
    """

    def __init__(self, path: Path, overrides: dict[str, Any]) -> None:
        root = path if path.is_dir() else path.parents[1]
        if (root / "scripts").is_dir():
            sys.path.insert(0, str(root))
        self.path = path
        self.config = load_bundle_config(str(path), "inference.yaml" if path.is_dir() else "inference.json")
        self.config.update(overrides)
        self.device = torch.device(self.config.get_parsed_content("device"))
        self.config.get_parsed_content("request").on(self.device)
        if problem := self.config.get_parsed_content("problem"):
            raise ValueError(problem)
        self.version: str = self.config["_meta_"]["version"]
        self.pack = self.config.get_parsed_content("pack")
        palette = importlib.import_module("scripts.organ.palette")  # lies on the path since a few lines
        self.colours = palette.structure_colours(len(self.pack.labels))
        self.inferer = self.config.get_parsed_content("inferer")
        self.preprocessing = self.config.get_parsed_content("preprocessing")
        self.postprocessing = self.config.get_parsed_content("postprocessing")

    def network(self) -> torch.nn.Module:
        """Return the U-Net: a `model.ts` itself, else the config's with the weights of the file that the pack names.

        The inferer applies it where the organ is the default one, and reads the U-Net of another from its pack.
        """
        if self.path.is_file():
            return torch.jit.load(self.path, map_location=self.device).eval()
        network = self.config.get_parsed_content("network_def").to(self.device)
        file = self.config.get_parsed_content("model_file")
        network.load_state_dict(torch.load(file, map_location=self.device, weights_only=True))
        return network.eval()
