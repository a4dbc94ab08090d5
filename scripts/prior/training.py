"""What MONAI's `SupervisedTrainer` needs to train the prior: data set, sampler, network with codes, handlers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.data import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler

from .field import DeformTemplateField
from .linear import LinearShapeModel
from .samples import ShapeSamples


class ShapePointsDataset(Dataset):
    """Random points of training shapes, a fresh draw each time.

    Half the points lie on the surface, half are free. Both halves are shuffled in thirds: the first third of an item's
    points is made like the whole, so that terms of first order may use it alone.

    Args:
        data: the shapes.
        n_points: points an item, N.
        first_order_share: share of N that stands first and is made like the whole.
        seed: with the epoch, it fixes all draws.
    """

    def __init__(
        self, data: Sequence[ShapeSamples], n_points: int = 300, first_order_share: float = 1 / 3, seed: int = 0
    ) -> None:
        super().__init__(data=data)
        if not 0.0 < first_order_share <= 1.0:
            raise ValueError(f"first_order_share must lie in (0, 1], not {first_order_share}")
        self.n_points = n_points
        self.n_first = max(2, int(round(n_points * first_order_share)))
        self.seed = seed
        self.surface = [torch.from_numpy(shape.surface) for shape in data]
        self.free = [torch.from_numpy(shape.free) for shape in data]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Restart the draws for an epoch."""
        self.epoch = epoch
        self.rng = np.random.default_rng([self.seed, epoch])

    def _draw(self, index: int, count: int) -> dict[str, Tensor]:
        n_surface = count // 2
        surface = self.surface[index][torch.from_numpy(self.rng.integers(len(self.surface[index]), size=n_surface))]
        free = self.free[index][torch.from_numpy(self.rng.integers(len(self.free[index]), size=count - n_surface))]
        return {
            "points": torch.cat([surface[:, :3], free[:, :3]]),
            "normals": torch.cat([surface[:, 3:], torch.zeros_like(free[:, :3])]),
            "sdf": torch.cat([surface.new_zeros(n_surface), free[:, 3]]),
            "on_surface": torch.arange(count) < n_surface,
        }

    def __getitem__(self, index: int) -> dict[str, Tensor]:  # type: ignore[override]
        """index (), points (N, 3), normals (N, 3) (zero off the surface), sdf (N,), on_surface (N,) of one shape."""
        parts = [self._draw(index, self.n_first)]
        if self.n_points > self.n_first:
            parts.append(self._draw(index, self.n_points - self.n_first))
        item = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        item["index"] = torch.tensor(index)
        return item


class EpochSampler(Sampler[int]):
    """`count` shape indices an epoch, each shape as often as any other; the dataset's seed and epoch fix the order."""

    def __init__(self, dataset: ShapePointsDataset, count: int) -> None:
        self.dataset = dataset
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.dataset.seed, self.dataset.epoch, 1])
        rounds = -(-self.count // len(self.dataset))
        order = np.concatenate([rng.permutation(len(self.dataset)) for _ in range(rounds)])
        return iter(order[: self.count].tolist())


class TrainingProgress:
    """Handler that knows where a run stands: it restarts the data set's draws each epoch and is saved in checkpoints.

    A resumed run thus goes on at its epoch and draws as an unbroken one does. It stands in for the trainer in a
    checkpoint, because a config cannot let the trainer's own handlers refer to the trainer.
    """

    def __init__(self, dataset: ShapePointsDataset) -> None:
        self.dataset = dataset
        self.engine: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        self.engine = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the epoch that begins."""
        self.dataset.set_epoch(engine.state.epoch)

    def state_dict(self) -> Mapping[str, Any]:
        """The trainer's state."""
        return {} if self.engine is None else self.engine.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the trainer where it stood."""
        if self.engine is not None:
            self.engine.load_state_dict(state)


def prepare_points_batch(
    batch: Mapping[str, Tensor], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """MONAI's `prepare_batch` for point samples: (inputs, targets) on the device."""
    moved = {key: value.to(device=device, non_blocking=non_blocking) for key, value in batch.items()}
    inputs = {key: moved[key] for key in ("index", "points")}
    return inputs, {key: moved[key] for key in ("sdf", "normals", "on_surface")}


def initial_codes(
    linear: LinearShapeModel, scores: Tensor, code_dim: int, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """Codes (S, code_dim) from the linear model's whitened scores (S, K), the first component of unit deviation.

    Components beyond the model's modes are small noise. Codes that start as noise alone never came to steer the field
    in our measurements.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = noise * torch.randn(scores.shape[0], code_dim, generator=generator)
    kept = min(code_dim, scores.shape[1])
    codes[:, :kept] += scores[:, :kept] * (linear.std[:kept] / linear.std[0])
    return codes


class PriorTrainingNetwork(nn.Module):
    """The field together with the training shapes' codes, which are free parameters (METHOD 2).

    Args:
        field: the field to train.
        alpha: (S, A) initial instance codes.
        beta: (S, H) initial hyper codes.
        first_order_share: share of a batch's points, from the first on, that get derivatives.
        laplacian: also give the flow's Laplacian (Eq. 48).
    """

    def __init__(
        self,
        field: DeformTemplateField,
        alpha: Tensor,
        beta: Tensor,
        first_order_share: float = 1 / 3,
        laplacian: bool = False,
    ) -> None:
        super().__init__()
        self.field = field
        self.alpha = nn.Parameter(alpha.clone())
        self.beta = nn.Parameter(beta.clone())
        self.first_order_share = first_order_share
        self.laplacian = laplacian

    def parameter_groups(self, network_lr: float, code_lr: float) -> list[dict[str, Any]]:
        """Optimiser groups: the field's weights and the codes."""
        return [
            {"params": list(self.field.parameters()), "lr": network_lr},
            {"params": [self.alpha, self.beta], "lr": code_lr},
        ]

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions for index (B,) and points (B, N, 3), as `DeformTemplateLoss` wants them."""
        return predict_for_loss(
            self.field,
            self.alpha[inputs["index"]],
            self.beta[inputs["index"]],
            inputs["points"],
            self.first_order_share,
            self.laplacian,
        )


def predict_for_loss(
    field: DeformTemplateField, alpha: Tensor, beta: Tensor, points: Tensor, first_order_share: float, laplacian: bool
) -> dict[str, Tensor]:
    """Evaluate the field with derivatives at the first share of points (B, N, 3), without at the rest."""
    count = points.shape[1]
    n_first = max(2, int(round(count * first_order_share)))
    weights = field.weights(beta)
    result = field.evaluate_with_derivatives(weights, alpha, points[:, :n_first], laplacian)
    if n_first < count:
        rest = field.evaluate(weights, alpha, points[:, n_first:])
        for key in ("sdf", "correction"):
            result[key] = torch.cat([result[key], rest[key]], dim=1)
    return {**result, "alpha": alpha, "beta": beta}


def warm_up_template(
    field: DeformTemplateField,
    linear: LinearShapeModel,
    steps: int = 200,
    n_points: int = 1500,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    """Fit the template to the linear model's mean shape before the joint training; returns the last mean error.

    Half the points lie where the mean distance is small, half are uniform in the grid's cube.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(field.parameters()).device
    pool = (torch.rand(40 * n_points, 3, generator=generator) * 2.0 - 1.0) * linear.extent
    values = linear.evaluate(torch.zeros_like(linear.std), pool)
    near = pool[values.abs() < max(0.1, float(values.abs().quantile(0.1)))]
    optimizer = torch.optim.Adam(field.template_net.parameters(), lr=learning_rate)
    error = torch.zeros(())
    for _ in range(steps):
        picks = [torch.randint(len(source), (n_points // 2,), generator=generator) for source in (near, pool)]
        points = torch.cat([near[picks[0]], pool[picks[1]]])
        target = linear.evaluate(torch.zeros_like(linear.std), points).to(device)
        error = (field.template(points.to(device)).squeeze(-1) - target).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return float(error.detach())


def build_training_network(
    field: DeformTemplateField,
    linear: LinearShapeModel,
    grids: np.ndarray,
    first_order_share: float = 1 / 3,
    laplacian: bool = False,
    warm_up_steps: int = 200,
    seed: int = 0,
) -> PriorTrainingNetwork:
    """The training network: codes from the shapes' PCA, template from their mean (both deviate from the paper).

    Args:
        field: untrained field, or a trained one to start from (then pass 0 warm-up steps).
        linear: linear model of the training shapes.
        grids: (S, G, G, G) their signed distance grids.
        first_order_share: see `PriorTrainingNetwork`.
        laplacian: see `PriorTrainingNetwork`.
        warm_up_steps: steps of `warm_up_template`.
        seed: of the codes' noise and the warm-up's points.
    """
    scores = linear.scores(grids)
    if warm_up_steps:
        warm_up_template(field, linear, warm_up_steps, seed=seed)
    alpha = initial_codes(linear, scores, field.code_dim, seed=seed)
    beta = initial_codes(linear, scores, field.hyper_code_dim, seed=seed + 1)
    return PriorTrainingNetwork(field, alpha, beta, first_order_share, laplacian)


class LossProgressBar(ProgressBar):
    """ignite's tqdm bar over all steps of the run, with the loss."""

    def __init__(self) -> None:
        super().__init__(persist=True, desc="training", disable=None)

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Attach as a MONAI handler is attached: with the engine alone."""
        super().attach(
            engine,
            output_transform=lambda output: {"loss": output["loss"].item()},
            event_name=Events.ITERATION_COMPLETED(every=10),
            closing_event_name=Events.COMPLETED,
        )
