"""The options of the training of a U-Net: of which kind and in which range each one lies."""

from __future__ import annotations

from typing import Any

from ..organ.checks import Check, number, text, whole
from ..organ.options import or_none, require, switch

OPTIONS: dict[str, Check] = {
    **dict.fromkeys(("dataset_dir", "organ"), text),
    **dict.fromkeys(("init", "resume"), or_none(text)),
    "finetune": switch,
    "max_epochs": whole(1, 10**6),
    "batch_size": whole(1, 10**4),
    "learning_rate": number(0, 10),
    "weight_decay": number(0, 10),
    "augmentation": number(0, 1),
    "val_interval": whole(1, 10**6),
    "patience": whole(1, 10**6),
    "cache_rate": number(0, 1),
    "num_workers": whole(0, 1024),
    "seed": whole(0, 2**32 - 1),
}


def check_options(**given: Any) -> None:
    """Refuse options that are of another kind or out of their range, before anything is made of them.

    Args:
        given: name → value, of `OPTIONS`.

    Raises:
        SystemExit: one is; with a plain message.
    """
    require(OPTIONS, given)
