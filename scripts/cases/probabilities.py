"""Class probabilities that come with a mask: whether they are such, whether they fit it, and which channel is which."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..geometry.affine import same_grid
from .arrays import file_of
from .errors import UnrefinableCase
from .given import GIVEN
from .labels import FEW_LABELS

ROUNDING = 0.02  # by how much a probability, or the channels' sum, may be off
SUMS_SHARE = 0.01  # of voxels whose channels may sum to something else, such as at the border of a resampled volume
AGREE_SHARE = 0.5  # of the mask's voxels whose own channel must be the one that stands out there
LOOKED_AT = 1 << 21  # voxels from which sums and channels are told; of larger volumes every so-manieth


class CheckProbabilitiesd(MapTransform):
    """Check that class probabilities are such and fit the mask, and bring their channels into the pack's order.

    Where the mask is another model's, whose labels have names or a source, its channels are taken for that model's: the
    channel of a label is its value, as nnU-Net has it. One channel is the foreground where there is but one label.

    Args:
        keys: the key of the label map, (1, X, Y, Z), with the pack's values.
        labels: the label values that may occur beside 0, in the order that the channels shall have.
        prob_key: key of the class probabilities (C, X, Y, Z), which need not be there. They come out as (1 + number of
            labels, X, Y, Z), background first.

    Raises:
        UnrefinableCase: they are no probabilities, lie on another grid, or have other channels.
    """

    def __init__(self, keys: KeysCollection = "pred", labels: Sequence[int] = (), prob_key: str = "prob") -> None:
        super().__init__(keys)
        self.labels = [int(v) for v in labels]
        self.prob_key = prob_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the probabilities."""
        d = dict(data)
        if self.prob_key not in d:
            return d
        prob, mask, key = d[self.prob_key], d[self.keys[0]], self.keys[0]
        file = file_of(prob)
        if not same_grid(prob.shape[1:], prob.affine, mask.shape[1:], mask.affine):
            raise UnrefinableCase(f"{file} is not on the grid of {file_of(mask)}: resample it, or leave it out")
        values = torch.as_tensor(prob).cpu().numpy()
        wrong = what_is_wrong(values)
        if not wrong:
            values, wrong = self._in_order(values, d.get(f"{key}{GIVEN}"))
        wrong = wrong or self._other_order(values, torch.as_tensor(mask)[0].cpu().numpy())
        if wrong:
            raise UnrefinableCase(f"{file} {wrong}, or leave --prob_dir out")
        d[self.prob_key] = MetaTensor(torch.from_numpy(values), meta=prob.meta)
        return d

    def _in_order(self, prob: np.ndarray, given: Any) -> tuple[np.ndarray, str]:
        """Return the channels in the pack's order, and what is wrong, "" if nothing is."""
        if len(prob) == 1 and len(self.labels) == 1:
            return np.concatenate([1 - prob, prob]), ""
        meaning = given.meaning if given is not None and given.named and not (given.files or given.places) else {}
        if meaning and max(meaning) < len(prob):
            ordered = np.zeros((len(self.labels) + 1, *prob.shape[1:]), prob.dtype)
            for value, label in meaning.items():
                ordered[1 + self.labels.index(label)] += prob[value]
            ordered[0] = 1 - ordered[1:].sum(axis=0)
            return ordered, ""
        if len(prob) == len(self.labels) + 1:
            return prob, ""
        return prob, (
            f"has {len(prob)} channels; background and the labels {self.labels} are needed, in this order, on the last "
            "axis: export all channels of the network's softmax"
        )

    def _other_order(self, prob: np.ndarray, mask: np.ndarray) -> str:
        """Return whether the channels are in another order than the labels, by where they are large; "" if not."""
        some = mask.reshape(-1)[:: stride(mask.size)]
        numbers = np.zeros(some.shape, np.intp)
        for number, label in enumerate(self.labels, 1):
            numbers[some == label] = number
        counts = np.bincount(numbers, minlength=len(self.labels) + 1)
        sums = [np.bincount(numbers, channel.reshape(-1)[:: stride(mask.size)], len(counts)) for channel in prob]
        means = np.array(sums) / np.maximum(counts, 1)  # of a channel (row) where the mask has a label (column)
        others = [
            number
            for number in range(1, len(counts))
            if counts[number]
            and (means[number, number] <= means[number, 0] or means[1:, number].argmax() + 1 != number)
        ]
        if counts[others].sum() <= (1 - AGREE_SHARE) * counts[1:].sum():
            return ""
        worst = max(others, key=lambda number: counts[number])
        return (
            f"says otherwise than the mask: where that has the label {self.labels[worst - 1]}, channel {worst} is "
            f"{means[worst, worst]:.2f} on average, and channel {means[:, worst].argmax()} the largest; put background "
            f"first, then the labels {self.labels} in this order, of the same case"
        )


def what_is_wrong(prob: np.ndarray) -> str:
    """Return why values (C, X, Y, Z) are no class probabilities, with the remedy; "" if they may be such."""
    low, high = float(prob.min()), float(prob.max())
    span = f"holds values from {low:.4g} to {high:.4g}"
    if not np.isfinite([low, high]).all():
        return "holds NaN or infinity: export the network's softmax again"
    some = prob.reshape(len(prob), -1)[:, :: stride(prob[0].size)]
    few = high <= 1 + ROUNDING or (len(prob) == 1 and len(np.unique(some)) <= FEW_LABELS)
    if low >= -ROUNDING and few and is_whole(some) and is_whole(prob):
        return f"{span}, whole numbers only: it is a mask, no probabilities: give the network's softmax"
    if low < -ROUNDING or high > 256:
        return f"{span}: these are logits; apply softmax to the channels (to a single one sigmoid)"
    if high > 1 + ROUNDING:
        scale = 100 if high <= 100 * (1 + ROUNDING) else 255
        return f"{span}: divide them by {scale}{' since they are per cent' * (scale == 100)}"
    sums = some.sum(axis=0)
    sums = sums[sums > 0]  # outside of what a network has seen, all may be 0
    if len(prob) > 1 and np.mean(np.abs(sums - 1) > ROUNDING) > SUMS_SHARE:
        return (
            f"has channels that do not sum to one, but to {np.median(sums):.2f}: apply softmax to them, or add the "
            "background as what is missing"
        )
    return ""


def is_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers."""
    return bool((values == np.rint(values)).all())


def stride(size: int) -> int:
    """Return of how many voxels one is looked at; odd, so that it does not keep to a plane of the grid."""
    return max(size // LOOKED_AT, 1) | 1
