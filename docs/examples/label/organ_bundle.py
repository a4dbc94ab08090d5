"""`python docs/examples/label/organ_bundle.py ORGAN FOLDER`: a copy of the bundle that is for another organ alone.

Hosts take a bundle's labels from its metadata and hold the U-Net of its `models/model.pt`: in the copy, ORGAN's.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

BUNDLE = Path(__file__).resolve().parents[3]


def organ_bundle(organ: str, folder: Path, bundle: Path = BUNDLE) -> None:
    """Write the copy.

    Args:
        organ: a folder of the bundle's `models/` with a U-Net.
        folder: where the copy goes; it must not exist.
        bundle: what is copied.

    Raises:
        FileNotFoundError: the organ has no pack or no U-Net.
        FileExistsError: the folder exists.
    """
    pack = bundle / "models" / organ
    network = (bundle / "models" if is_default(pack) else pack) / "model.pt"
    if not network.is_file():
        raise FileNotFoundError(f"{network} is missing: train the organ's U-Net with configs/train.yaml")
    for part in ("configs", "scripts"):
        shutil.copytree(bundle / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(pack, folder / "models" / organ, ignore=shutil.ignore_patterns("model.pt"))
    shutil.copy(network, folder / "models" / "model.pt")
    file = folder / "models" / organ / "organ.yaml"
    if not is_default(pack):
        others = re.sub(r"(?m)^default:.*\n?", "", file.read_text(encoding="utf-8"))
        file.write_text(f"{others.rstrip()}\ndefault: true\n", encoding="utf-8")
    for config in (folder / "configs").glob("*.yaml"):
        config.write_text(re.sub(r"(?m)^organ: \w+", f"organ: {organ}", config.read_text()))
    metadata = folder / "configs" / "metadata.json"
    changed = organ_metadata(json.loads(metadata.read_text()), yaml.safe_load(file.read_text()))
    metadata.write_text(json.dumps(changed, indent=4) + "\n")


def is_default(pack: Path) -> bool:
    """Return whether an organ pack is the default one, whose U-Net is `models/model.pt`."""
    return bool(yaml.safe_load((pack / "organ.yaml").read_text()).get("default", False))


def organ_metadata(metadata: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata with what `organ.yaml` says of labels, image, network and data."""
    classes = {0: "background", **dict(sorted(settings["labels"].items()))}
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    image |= {"modality": settings["modality"], "spatial_shape": settings["patch_size"]["infer"]}
    if settings["intensity"]["kind"] != "zscore":
        image["value_range"] = [-1, 1]
    pred |= {"num_channels": len(classes), "spatial_shape": settings["patch_size"]["infer"]}
    pred["channel_def"] = {str(value): name for value, name in classes.items()}
    return metadata | {
        "name": f"{metadata['name']}: {settings['name']}",
        "description": f"{settings['description']}: segmentation with a U-Net, refined with an implicit shape prior.",
        "data_source": "{dataset} ({source})".format(**settings["provenance"]),
        "image_classes": f"single channel, {settings['modality']}",
        "label_classes": "single channel, " + ", ".join(f"{value} {name}" for value, name in classes.items()),
        "pred_classes": f"{len(classes)} channels of logits: " + ", ".join(classes.values()),
    }


if __name__ == "__main__":
    organ_bundle(sys.argv[1], Path(sys.argv[2]))
