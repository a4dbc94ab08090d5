"""The steps of configs/train_prior.yaml around the trainer: which files and structures, and the prior that results."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import monai
import numpy as np
import torch
import torch.distributed as dist

from ...cases.find import case_name, labels_folder, list_masks
from ...cases.sources import LabelSource
from ...cases.split import evenly_spaced, hold_out, part_names
from ...organ.pack import OrganPack, Structure
from ...prior.linear import LinearShapeModel
from ...prior.prior import ShapePrior, assemble_prior
from ...prior.volume import UsualVolume
from ...shapes.preparation import PreparedShapes, prepare
from .check import held_out_scores, noise_floor, summary, training_dice
from .network import PriorTrainingNetwork

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class PriorTrainingError(ValueError):
    """The trained prior does not describe its own training shapes: data or settings are not fit for it."""


@dataclass(frozen=True)
class Target:
    """What a run trains: one prior, and the structures that it is to describe.

    Attributes:
        structures: one, or several of a pack that share the prior, such as both sides of an organ.
    """

    structures: tuple[Structure, ...]

    @property
    def name(self) -> str:
        """The structure's name; that of the prior's file where several share it."""
        return self.structures[0].name if len(self.structures) == 1 else self.prior.stem

    @property
    def prior(self) -> Path:
        """Where the prior goes."""
        return self.structures[0].prior


def select_targets(pack: OrganPack, label: str | int | Sequence[str | int] | None) -> list[Target]:
    """The priors of the structures that `label` names or whose label values it gives, in the pack's order.

    None or "all" is all; several are given as a list or with commas between them. Structures that share a prior are
    always trained together. Priors of other packs are theirs to train.

    Raises:
        ValueError: the pack has no such structure, or its prior is another pack's.
    """
    own = [s for s in pack.structures if s.prior.parent.resolve() == pack.folder.resolve()]
    targets = [Target(tuple(s for s in own if s.prior == prior)) for prior in dict.fromkeys(s.prior for s in own)]
    if not targets:
        raise ValueError(f"all priors of '{pack.name}' are other packs': train these")
    if label is None or label == "all":
        return targets
    given = label.split(",") if isinstance(label, str) else [label] if isinstance(label, int) else list(label)
    wanted = {str(one).strip() for one in given}
    names = {s.name: {s.name, *([str(s.labels[0])] if len(s.labels) == 1 else [])} for s in pack.structures}
    unknown = sorted(wanted - set().union(*names.values()))
    if unknown:
        listed = ", ".join(f"{s.name} ({'+'.join(map(str, s.labels))})" for s in pack.structures)
        raise ValueError(f"--label {', '.join(unknown)}: '{pack.name}' has the structures {listed}")
    borrowed = [s for s in pack.structures if s not in own and names[s.name] & wanted]
    if borrowed:
        told = ", ".join(f"{s.name} has the prior of '{s.prior.parent.name}'" for s in borrowed)
        packs = dict.fromkeys(s.prior.parent.name for s in borrowed)
        raise ValueError(f"--label {label}: {told}: train {' and '.join(f'--organ {name}' for name in packs)}")
    return [target for target in targets if any(names[s.name] & wanted for s in target.structures)]


def split_files(
    pack: OrganPack, dataset_dir: str | Path, validation_share: float = 0.15, labels: LabelSource | None = None
) -> dict[str, list[Path]]:
    """Training and validation files of a folder, or of its subfolder `labels`; or folders of masks, one a case.

    Training files are those of the pack's split where the folder holds some, else all but the split's test files.
    Validation files are the split's; where it has none, the last `validation_share` of the training files.
    """
    found = (list_masks if labels is None else labels.find)(labels_folder(dataset_dir))
    files = {file.name if file.is_dir() else case_name(file): file for file in found}
    train = [files[name] for name in part_names(pack, "train") if name in files]
    validation = [files[name] for name in part_names(pack, "validation") if name in files]
    if train:
        missing = [name for name in part_names(pack, "train") if name not in files]
        if missing:
            logger.warning("training files of the split that are missing: %s", ", ".join(missing))
    else:
        others = {*part_names(pack, "validation"), *part_names(pack, "test")}
        train = [file for name, file in files.items() if name not in others]
    if not validation:
        train, validation = hold_out(train, int(validation_share * len(train)))
    return {"train": train, "validation": validation}


def prepare_target(
    pack: OrganPack,
    target: Target,
    dataset_dir: str | Path,
    cache_dir: str | Path,
    settings: Mapping[str, Any],
    validation_share: float = 0.15,
    anchor: str | None = None,
    workers: int = 1,
    source: str = "",
    train_cases: int | None = None,
    mirror: str | None = None,
) -> PreparedShapes:
    """Samples of a prior's training and validation shapes, see `preparation.prepare`.

    All shapes of a label map are on the same side of the split. With `train_cases`, so many of the label maps are
    learned from, spread evenly; with `mirror`, that is done with all shapes, whatever their structures say.
    """
    labels = LabelSource.of(pack, source)
    files = split_files(pack, dataset_dir, validation_share, labels)
    if train_cases:
        files["train"] = [files["train"][k] for k in evenly_spaced(len(files["train"]), int(train_cases))]
    logger.info("%s: %d label maps to learn from, %d held out", target.name, *map(len, files.values()))
    how = mirroring(target, mirror)
    structures = [replace(one, mirror=how[one.name]) for one in target.structures]
    return prepare(files["train"], structures, cache_dir, dict(settings), files["validation"], anchor, workers, labels)


def mirroring(target: Target, mirror: str | None = None) -> dict[str, str]:
    """Return structure → whether its shapes may be mirrored: `mirror`, or where that is None what the pack says."""
    return {one.name: mirror or one.mirror for one in target.structures}


def train_others(
    targets: Sequence[Target], output_file: str | Path | None, resume: str | None, command: Sequence[str]
) -> list[str]:
    """Train all priors but the last, one after another, each by the command of this run with its `--label`.

    A process of its own gives each the same prior as a run for it alone, and one that fails does not stop the others.

    Args:
        targets: what is to be trained; the last one is left to the caller.
        output_file: where the caller's prior goes.
        resume: the caller's checkpoint.
        command: the command line that started this run.

    Returns:
        Names of the priors whose training failed.

    Raises:
        ValueError: an option makes sense for a single prior only, or the run was not started by a command line.
    """
    *others, last = targets
    if not others:
        return []
    names = ", ".join(target.structures[0].name for target in targets)
    if resume is not None or output_file is not None:
        raise ValueError(f"--resume and --output_file go with a single --label, one of: {names}")
    if not {"monai.bundle", "train-prior"} & {*command}:
        raise ValueError(f"several structures are trained from the command line only; here give label, one of: {names}")
    failed = []
    for number, target in enumerate(others, 1):
        logger.info("prior %d of %d: %s", number, len(targets), target.name)
        if subprocess.run([sys.executable, *command[1:], "--label", target.structures[0].name]).returncode:
            logger.error("prior %s could not be trained", target.name)
            failed.append(target.name)
    logger.info("prior %d of %d: %s", len(targets), len(targets), last.name)
    return failed


def require_all(failed: Sequence[str]) -> None:
    """Raise where the training of other structures failed.

    Raises:
        PriorTrainingError: some did.
    """
    if failed:
        raise PriorTrainingError(f"could not be trained: {', '.join(failed)}; the messages above say why")


def require_one(targets: Sequence[Target]) -> None:
    """Raise unless a single prior is to be trained.

    Raises:
        ValueError: there are several.
    """
    if len(targets) != 1:
        names = " | ".join(target.structures[0].name for target in targets)
        raise ValueError(f"a distributed run trains one prior: --label {names}")


def first_process_first(make: Callable[[], Result]) -> Result:
    """Make something in the first process of a distributed run while the others wait, then, from its files, in them."""
    if dist.get_rank() > 0:
        dist.barrier()
        return make()
    result = make()
    dist.barrier()
    return result


def in_first_process(act: Callable[[], Result]) -> Result | None:
    """Do something in the first process of a distributed run only; the others wait until it is done and get None."""
    result = act() if dist.get_rank() == 0 else None
    dist.barrier()
    return result


def finish(
    network: PriorTrainingNetwork,
    linear: LinearShapeModel,
    prepared: PreparedShapes,
    pack: OrganPack,
    target: Target,
    output_file: str | Path,
    training: Mapping[str, Any],
    linear_modes: int = 24,
    min_dice: float = 0.9,
    held_out_steps: int = 100,
    init: str | Path | None = None,
) -> ShapePrior:
    """Check the trained field, derive the rest of the prior and write it.

    Args:
        network: trained network.
        linear: linear model of the training shapes; its first `linear_modes` modes are kept.
        prepared: the shapes.
        pack: organ pack, for names and provenance.
        target: what was trained.
        output_file: where the prior goes.
        training: settings to note in the card.
        linear_modes: modes kept.
        min_dice: mean DSC of training shapes below which the run fails.
        held_out_steps: steps of the fit to held-out shapes.
        init: what the training started from, for the card.

    Returns:
        The prior, on the CPU.

    Raises:
        PriorTrainingError: the mean DSC of training shapes is below `min_dice`; nothing is written.
    """
    network.eval()
    own = training_dice(network.field, network.alpha.detach(), network.beta.detach(), prepared.train)
    mean = float(np.mean(list(own.values())))
    worst = min(own, key=lambda name: own[name])
    logger.info("training shapes: mean DSC %.4f, worst %.4f (%s)", mean, own[worst], worst)
    if not mean >= min_dice:
        raise PriorTrainingError(
            f"'{target.name}' describes its own training shapes with a mean DSC of {mean:.3f}, below {min_dice}: "
            "the prior is not written. Train longer, widen the network, or look for mislabelled cases."
        )
    kept = LinearShapeModel(linear.mean, linear.modes[:linear_modes], linear.std[:linear_modes], linear.extent)
    kept = LinearShapeModel.from_state(kept.state())
    prior = assemble_prior(
        network.field.cpu(),
        network.alpha,
        network.beta,
        kept,
        kept.scores(prepared.grids),
        prepared.anchor_points,
        prepared.scale_mm,
        {},
    )
    usual = UsualVolume.of(prepared.volumes_ml)
    codes_only = summary(held_out_scores(prior, prepared.validation, held_out_steps))
    with_weights = summary(held_out_scores(prior, prepared.validation, held_out_steps, tuned=True))
    prior.card = {
        "organ": pack.name,
        "structure": ", ".join(s.name for s in target.structures),
        "labels": sorted({value for s in target.structures for value in s.labels}),
        "provenance": pack.provenance,
        "n_cases": prepared.n_cases,
        "n_shapes": len(prepared.train),
        "volume": None if usual is None else usual.as_json(),
        "skipped": prepared.skipped,
        "cut": prepared.cut,
        "anchor": prepared.anchor_name,
        "data_hash": prepared.data_hash,
        "samples": asdict(prepared.settings),
        "training": dict(training) | {"init": None if init is None else str(init)},
        "dice_training": {"mean": round(mean, 4), "min": round(own[worst], 4), "n": len(own)},
        "dice_held_out": {key: codes_only[f"dice_{key}"] for key in ("mean", "min")} | {"n": codes_only["n"]},
        "held_out": {
            "codes": codes_only,
            "codes_and_weights": with_weights,
            "cd_noise_floor": noise_floor(prepared.validation[:12]),
        },
        "versions": {"torch": torch.__version__, "monai": monai.__version__, "numpy": np.__version__},
    }
    logger.info("%s/%s: %s; wrote %s", pack.name, target.name, figures_line(prior.card), prior.save(output_file))
    return prior


def figures_line(card: Mapping[str, Any]) -> str:
    """The figures of a card in a line."""
    text = f"DSC of training shapes {card['dice_training']['mean']:.4f}"
    for title, scores in (("codes", card["held_out"]["codes"]), ("tuned", card["held_out"]["codes_and_weights"])):
        if scores["n"] and scores["cd_mean"] is not None:
            text += (
                f", of {scores['n']} unseen ({title}) {scores['dice_mean']:.4f} with CD x1000 {scores['cd_mean']:.3f}"
            )
    return text
