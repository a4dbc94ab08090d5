"""Drafts: flawed masks of real networks on patients which these networks did not see.

Whoever learns to correct segmentations needs examples of real errors. Small 2D U-Nets are trained in cross-validation
on slices, and their predictions on the held-out fold are kept at several stages of training, so that the drafts of
one patient range from very poor to fair: what a user's own CNN may hand us.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from tqdm import tqdm

from ...cases.read import read_array, read_labels
from ...cases.write import write_nifti
from ...evidence.images import normalise_intensity, with_gamma
from ...geometry.resample import WorldGrid, resample
from ...organ.imaging import Intensity

FEATURES = (8, 8, 16, 32, 48, 8)


def read_pair(image_file: Path, label_file: Path, intensity: Intensity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read an image and its label map, the labels resampled to the image's grid: image, labels, affine."""
    image, affine = read_array(image_file)
    labels, label_affine = read_labels(label_file)
    label_map = resample(labels.astype(np.uint8), label_affine, WorldGrid(affine, image.shape), order=0)
    return normalise_intensity(image, intensity), label_map, affine


def _padded_slices(volume: np.ndarray) -> np.ndarray:
    """Return axial slices (Z, X', Y') padded with zeros to multiples of 16."""
    pads = [(0, -n % 16) for n in volume.shape[:2]]
    return np.pad(volume, [*pads, (0, 0)]).transpose(2, 0, 1)


def _predict(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    slices = torch.from_numpy(_padded_slices(image)[:, None].copy())
    network.eval()
    with torch.no_grad():
        labels = torch.cat([network(part).argmax(1) for part in slices.split(16)])
    network.train()
    return labels.numpy().transpose(1, 2, 0)[: image.shape[0], : image.shape[1]].astype(np.uint8)


def make_drafts(
    image_files: list[Path],
    label_files: list[Path],
    out_dir: Path,
    intensity: Intensity,
    folds: int = 3,
    snapshots: tuple[int, ...] = (100, 250, 500, 1000),
    batch: int = 8,
    seed: int = 0,
) -> None:
    """Write drafts of every case: `out_dir/step<n>/<case>.nii.gz` on the image's grid, by a network of another fold.

    Args:
        image_files: images, one a case.
        label_files: label maps of the same cases, in the same order, on any grid.
        out_dir: where the drafts go; folds whose drafts all exist are skipped.
        intensity: the organ pack's `intensity`.
        folds: number of folds.
        snapshots: training steps after which the held-out fold is predicted.
        batch: slices a step.
        seed: seed of initialisation and sampling.
    """
    cases = [read_pair(i, m, intensity) for i, m in zip(image_files, label_files, strict=True)]
    classes = int(max(labels.max() for _, labels, _ in cases)) + 1
    for fold in range(folds):
        held = [k for k in range(len(cases)) if k % folds == fold]
        targets = {(s, k): out_dir / f"step{s:04d}" / image_files[k].name for s in snapshots for k in held}
        if all(file.is_file() for file in targets.values()):
            continue
        torch.manual_seed(seed + fold)
        rng = np.random.default_rng(seed + fold)
        network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=classes, features=FEATURES)
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
        loss_of = DiceCELoss(softmax=True, to_onehot_y=True, batch=True)
        known = [k for k in range(len(cases)) if k % folds != fold]
        side = [max(cases[k][0].shape[a] for k in known) for a in (0, 1)]
        side = [n + -n % 16 for n in side]
        for step in tqdm(range(1, max(snapshots) + 1), desc=f"drafts, fold {fold + 1}/{folds}"):
            images = np.zeros((batch, 1, *side), np.float32)
            labels = np.zeros((batch, 1, *side), np.int64)
            for b in range(batch):
                image, label_map, _ = cases[rng.choice(known)]
                z = rng.integers(image.shape[2])
                x, y = (int(rng.integers(0, side[a] - image.shape[a] + 1)) for a in (0, 1))
                wide, high = image.shape[:2]
                varied = with_gamma(image[:, :, z], np.exp(rng.normal(0, 0.2))) * np.exp(rng.normal(0, 0.1))
                images[b, 0, x : x + wide, y : y + high] = varied
                labels[b, 0, x : x + wide, y : y + high] = label_map[:, :, z]
            optimiser.zero_grad()
            loss = loss_of(network(torch.from_numpy(images)), torch.from_numpy(labels))
            loss.backward()
            optimiser.step()
            for k in held if step in snapshots else []:
                write_nifti(targets[step, k], nib.Nifti1Image(_predict(network, cases[k][0]), cases[k][2]))
