"""Batches of points of training shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from ...prior.linear import beyond, sample_grid
from ...shapes.samples import ShapeSamples


class ShapePointsDataset(Dataset):
    """Random points of training shapes, a fresh draw each time.

    Half the points lie on the surface, half are free. Both halves are shuffled in thirds: the first third of an item's
    points is made like the whole, so that terms of first order may use it alone.

    With `mix_share`, that share of the items stands for a shape between two: a mixture of their codes, whose signed
    distance is the same mixture of theirs. All its points are free.

    Args:
        data: the shapes.
        n_points: points an item, N.
        first_order_share: share of N that stands first and is made like the whole.
        seed: with the epoch, it fixes all draws.
        rank: of the process in a distributed run; each draws points of its own.
        mix_share: share of mixtures.
        extent: half the edge of the shapes' signed distance grids, from which mixtures are read.
    """

    def __init__(
        self,
        data: Sequence[ShapeSamples],
        n_points: int = 300,
        first_order_share: float = 1 / 3,
        seed: int = 0,
        rank: int = 0,
        mix_share: float = 0.0,
        extent: float = 1.0,
    ) -> None:
        super().__init__(data=data)
        if not 0.0 < first_order_share <= 1.0:
            raise ValueError(f"first_order_share must lie in (0, 1], not {first_order_share}")
        if not 0.0 <= mix_share < 1.0:
            raise ValueError(f"mix_share must lie in [0, 1), not {mix_share}")
        self.mix_share = mix_share
        self.extent = extent
        self.n_points = n_points
        self.n_first = max(2, int(round(n_points * first_order_share)))
        self.seed = seed
        self.rank = rank
        self.surface = [torch.from_numpy(shape.surface) for shape in data]
        self.free = [torch.from_numpy(shape.free) for shape in data]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Restart the draws for an epoch."""
        self.epoch = epoch
        self.rng = np.random.default_rng([self.seed, epoch, 0, self.rank])

    def _some(self, pool: Tensor, count: int) -> Tensor:
        return pool[torch.from_numpy(self.rng.integers(len(pool), size=count))]

    def _draw(self, index: int, count: int) -> dict[str, Tensor]:
        n_surface = count // 2
        surface = self._some(self.surface[index], n_surface)
        free = self._some(self.free[index], count - n_surface)
        return {
            "points": torch.cat([surface[:, :3], free[:, :3]]),
            "normals": torch.cat([surface[:, 3:], torch.zeros_like(free[:, :3])]),
            "sdf": torch.cat([surface.new_zeros(n_surface), free[:, 3]]),
            "on_surface": torch.arange(count) < n_surface,
        }

    def __getitem__(self, index: int) -> dict[str, Tensor]:  # type: ignore[override]
        """One shape's points.

        Returns:
            index (), points (N, 3), normals (N, 3) (zero off the surface), sdf (N,), on_surface (N,); where shapes are
            mixed also partner (), the other shape, and share (), how much of it there is.
        """
        if self.mix_share:
            share = float(self.rng.random() < self.mix_share) * self.rng.random()
            partner = int(self.rng.integers(len(self.data))) if share else index
            item = self._mixture(index, partner, share) if share else self._points(index)
            return item | {"index": torch.tensor(index), "partner": torch.tensor(partner), "share": torch.tensor(share)}
        return self._points(index) | {"index": torch.tensor(index)}

    def _mixture(self, index: int, partner: int, share: float) -> dict[str, Tensor]:
        """Points near either shape, with the mixture of both signed distances."""
        pair = (index, partner)
        drawn = [self._some(self.free[own], -(-self.n_points // 2)) for own in pair]
        points = torch.stack(drawn, dim=1).flatten(0, 1)[: self.n_points, :3]
        grids = torch.stack([torch.as_tensor(self.data[own].grid) for own in pair])
        values = sample_grid(grids, points, self.extent) + beyond(points, self.extent)[:, None]
        return {
            "points": points,
            "normals": torch.zeros_like(points),
            "sdf": values[:, 0].lerp(values[:, 1], share),
            "on_surface": torch.zeros(self.n_points, dtype=torch.bool),
        }

    def _points(self, index: int) -> dict[str, Tensor]:
        parts = [self._draw(index, self.n_first)]
        if self.n_points > self.n_first:
            parts.append(self._draw(index, self.n_points - self.n_first))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


class EpochSampler(DistributedSampler):
    """`count` shape indices an epoch and process, each shape as often as any other.

    The dataset's seed and epoch fix the order, which all processes of a distributed run share; each takes every
    n-th index of it. Unlike its base class it deals as many as a step needs where there are few shapes.

    Args:
        dataset: the shapes.
        count: indices an epoch and process.
        num_replicas: number of processes.
        rank: which of them this is.
    """

    def __init__(self, dataset: ShapePointsDataset, count: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, seed=dataset.seed)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        shapes: ShapePointsDataset = self.dataset  # type: ignore[assignment]
        rng = np.random.default_rng([shapes.seed, shapes.epoch, 1])
        total = self.count * self.num_replicas
        rounds = -(-total // len(shapes))
        order = np.concatenate([rng.permutation(len(shapes)) for _ in range(rounds)])
        return iter(order[:total][self.rank :: self.num_replicas].tolist())


def prepare_points_batch(
    batch: Mapping[str, Tensor], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """MONAI's `prepare_batch` for point samples: (inputs, targets) on the device."""
    moved = {key: value.to(device=device, non_blocking=non_blocking) for key, value in batch.items()}
    inputs: dict[str, Tensor] = {key: moved[key] for key in ("index", "points", "partner", "share") if key in moved}
    return inputs, {key: moved[key] for key in ("sdf", "normals", "on_surface")}
