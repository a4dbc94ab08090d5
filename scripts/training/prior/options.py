"""The options of the training of priors: of which kind and in which range each one lies."""

from __future__ import annotations

from typing import Any

from ...organ.checks import Check, mapping_of, number, one_of, text, whole
from ...organ.options import or_none, require, switch
from ...organ.structure import MIRROR_CHOICES


def _several(value: Any, where: str) -> str:
    """Check names or label values, of which a single one may come as a number."""
    return str(whole(0, 1 << 20)(value, where)) if isinstance(value, int) else text(value, where)


OPTIONS: dict[str, Check] = {
    **dict.fromkeys(("dataset_dir", "organ", "cache_dir"), text),
    **dict.fromkeys(("source", "init", "resume", "output_file", "anchor"), or_none(text)),
    "label": or_none(_several),
    "seed": whole(0, 2**32 - 1),
    "workers": whole(0, 1024),
    "train_cases": or_none(whole(1, 10**6)),
    "validation_share": number(0, 0.9),
    "cut_shapes": one_of(("exclude", "observed")),
    "cut_share": number(0, 1),
    "min_voxels": whole(1, 10**9),
    "mirror_augment": switch,
    "mirror": or_none(one_of(MIRROR_CHOICES)),
    "deform_augment": whole(0, 1000),
    "deform_amplitude": number(0, 1),
    "picct_points": whole(10, 10_000),
    "grid_size": whole(4, 256),
    "target_spacing_mm": or_none(number(0.01, 100)),
    "linear_modes": whole(1, 1000),
    "hidden": whole(4, 1024),
    "layers": whole(2, 32),
    "omega": number(0.001, 1000),
    "hyper": one_of(("low_rank", "full")),
    "rank": whole(1, 1024),
    "max_code_dim": whole(1, 1024),
    "codes": one_of(("pca", "noise")),
    "instance_code": switch,
    "hyper_code": switch,
    "max_epochs": whole(1, 10**6),
    "epoch_length": whole(1, 10**6),
    "batch_size": whole(1, 10**4),
    "n_points": whole(10, 100_000),
    "first_order_share": number(0, 1),
    "network_lr": number(1e-9, 10),
    "code_lr": number(1e-9, 10),
    "mix_codes": number(0, 1),
    "warm_up_steps": whole(0, 10**6),
    "loss_weights": mapping_of(text, number(0, 1e9)),
    "min_dice": number(0, 1),
    "val_interval": whole(0, 10**6),
    "val_steps": whole(1, 10**5),
    "val_shapes": whole(0, 10**4),
    "keep_best": switch,
    "held_out_steps": whole(1, 10**5),
}


def check_options(**given: Any) -> None:
    """Refuse options that are of another kind or out of their range, before anything is made of them.

    Args:
        given: name → value, of `OPTIONS`.

    Raises:
        SystemExit: one is; with a plain message.
    """
    require(OPTIONS, given)
