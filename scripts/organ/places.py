"""Where organ packs and the presets of the refinement lie, and the names of a pack's files."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"
PRESETS = MODELS.with_name("configs") / "presets.yaml"
ORGAN_FILE = "organ.yaml"
NETWORK_FILE = "model.pt"  # the U-Net
JOINT_FILE = "joint.safetensors"
EVIDENCE_FILE = "evidence.safetensors"  # the voxel head that reads images
BLIND_FILE = "evidence_without_image.safetensors"  # and the one for masks alone
QUALITY_FILES = {  # of all packs; what a predictor is told by → its file, see `quality.features`
    "fit": MODELS / "quality.safetensors",
    "image": MODELS / "quality_with_image.safetensors",
}
CALIBRATION_FILES = {"fit": "calibration.json", "image": "calibration_with_image.json"}
