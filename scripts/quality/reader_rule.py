"""What the readers of an image expect of a mask, which is what is predicted of it where there is an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .features import LEAST_LENGTH, OF_IMAGE


class ReaderRule:
    """Predicts what the second reader expects of a mask, or the voxel head where there is no second.

    Readers are too sure of what they see, the heads more so: they have learned from the patients of the priors. So from
    the logit of the Dice of each a constant is taken away, and one is added to its HD95; every pack has readers of its
    own. Rules with more figures, and perceptrons, met masks like those that they had learned from better, and those of
    other organs or networks worse.

    Args:
        shift: organ → (2, 2) of head and second reader: what is added to the logit of DSC, and to HD95 over the radius;
            "" for any other organ.
        spread: (2,) standard deviation of what is left, by target, see `predictor.targets_of`.
    """

    told_by = "image"

    def __init__(self, shift: Mapping[str, np.ndarray], spread: np.ndarray) -> None:
        self.shift = {organ: np.asarray(own, np.float64) for organ, own in shift.items()}
        self.spread = np.asarray(spread, np.float64)

    @classmethod
    def fitted(cls, values: np.ndarray, targets: np.ndarray, organs: Sequence[str]) -> ReaderRule:
        """Take each organ's median errors; for readers that are not known, the median over organs, or none.

        Args:
            values: (N, F) features of masks, as `OF_IMAGE`.
            targets: (N, 2) see `predictor.targets_of`.
            organs: (N,) whose masks these are.
        """
        (logit, hd95), by_second = _expected(values)
        off, of = np.stack([targets[:, 0] - logit, np.exp(targets[:, 1]) - hd95], 1), np.asarray(organs)
        known = sorted(set(organs))
        shift = {organ: np.zeros((2, 2)) for organ in ("", *known)}
        for reader in (0, 1):
            own = {organ: off[(of == organ) & (by_second == bool(reader))] for organ in known}
            medians = {organ: np.median(some, axis=0) for organ, some in own.items() if len(some)}
            usual = np.median(list(medians.values()), axis=0) if medians else np.zeros(2)
            for organ, found in shift.items():
                found[reader] = medians.get(organ, usual)
        rule = cls(shift, np.ones(2))
        rest = [(targets[of == organ] - rule.raw(values[of == organ], organ)[0]) ** 2 for organ in known]
        return cls(shift, np.sqrt(np.mean([some.mean(0) for some in rest], axis=0)))

    def raw(self, values: np.ndarray, organ: str) -> tuple[np.ndarray, np.ndarray]:
        """Return means and spreads (N, 2) for features (N, F) of an organ, on the scale of `predictor.targets_of`."""
        (logit, hd95), by_second = _expected(values)
        shift = self.shift.get(organ, self.shift[""])[by_second.astype(int)]
        mean = np.stack([logit + shift[:, 0], np.log(np.maximum(hd95 + shift[:, 1], LEAST_LENGTH))], 1)
        return mean, np.broadcast_to(self.spread, mean.shape)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file keeps of it, beside the organs' names in its header."""
        shift = np.stack(list(self.shift.values()))
        return {"shift": torch.from_numpy(shift).float(), "spread": torch.from_numpy(self.spread).float()}


def _expected(values: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """What is expected of masks, logit of Dice and HD95 over the radius, each (N,); whether by the second reader."""
    by_second = np.isfinite(values[:, OF_IMAGE.index("second_dice")])

    def of(what: str) -> np.ndarray:
        head, second = (values[:, OF_IMAGE.index(f"{reader}_{what}")] for reader in ("head", "second"))
        return np.where(by_second, second, head).astype(np.float64)

    hd95 = np.nan_to_num(LEAST_LENGTH * np.sinh(of("hd95")), nan=1.0)  # as large as the organ, where there is none
    return (of("dice"), hd95), by_second
