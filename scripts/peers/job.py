"""`python -m scripts reproduce`: the paper's comparison on one data set: seven networks, and their masks refined."""

from __future__ import annotations

import json
import logging
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..cases.files import write_text
from ..cases.find import case_name
from ..cases.lock import FolderLock
from ..cases.split import evenly_spaced
from ..evaluation.benchmark import benchmark
from ..organ.pack import OrganPack
from ..run.options import is_true
from ..unet.images import require_data, training_pairs
from ..unet.network import check_unet
from ..unet.plan import pack_with_unet
from .data import BATCH, Batches, Case, read_cases, task_of, write_mask
from .networks import ALL, PEERS, choose_networks
from .page import IMAGE, PLOT, PRESET, SHAPE, Trained, page, summaries_of
from .plot import write_plot
from .training import VALIDATED, Budget, load_finished, train

logger = logging.getLogger(__name__)


def reproduce(
    dataset_dir: str,
    organ: str = "hippocampus",
    output_dir: str = "output/reproduce",
    networks: str | Sequence[str] = ALL,
    minutes: float = 6.0,
    steps: int = 0,
    cases: int = 0,
    with_image: bool = True,
    seed: int = 0,
    device: str = "",
) -> str:
    """Train the paper's networks on one split and budget, and refine and score their masks of the test part.

    The networks are unet, double_unet, scan, ictnet, implicit_unet, nudf and iosnet, each in 3D and small (see
    scripts/peers). All learn from the training part of the organ pack's split; nothing is chosen by the test part. A
    run that was stopped goes on where it was: what is trained, segmented or scored is not done again. Remove refined/
    and refined_with_image/ to refine the same masks by other weights.

    Args:
        dataset_dir: folder with images/ and labels/, or a Decathlon task (dataset.json).
        organ: name of the organ pack, or path of its folder; where it describes no U-Net, one is planned from the data
            and written into its organ.yaml, as by `train`.
        output_dir: receives networks/ (checkpoint and log of each), masks/, what `benchmark` makes of each network's
            masks in refined/ and refined_with_image/, and benchmarks.md with its plot.
        networks: all, or some with commas between them.
        minutes: of processor time that the training of a network may take, on a GPU of the clock; 0 for no bound.
        steps: batches that it may take; 0 for no bound.
        cases: of the test part, at most, spread evenly over it; 0 for all.
        with_image: true refines a second time, with the images as evidence.
        seed: of weights, batches and fits.
        device: cpu or cuda; empty for cuda where there is one.

    Returns:
        The path of benchmarks.md.

    Raises:
        ValueError: an option makes no sense, the data set cannot be used, or the folder holds other networks.
        OrganError: the pack describes no U-Net, and none can be planned.
        SystemExit: a mask could not be refined or scored.
    """
    chosen = choose_networks(networks)
    budget = Budget(steps, 60.0 * minutes)
    pack = pack_with_unet(organ, dataset_dir)
    check_unet(pack)
    pairs = {part: training_pairs(dataset_dir, pack.split, part) for part in ("train", "validation", "test")}
    for part in ("train", "test"):
        require_data(pairs[part], dataset_dir)
    test = [pairs["test"][i] for i in evenly_spaced(len(pairs["test"]), cases or len(pairs["test"]))]
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out = Path(output_dir).resolve()
    if (out / "masks").exists() and not (out / "networks").is_dir():
        raise ValueError(f"{out / 'masks'} is of no earlier run: give an --output_dir of its own")
    options: dict[str, Any] = {
        "dataset_dir": dataset_dir,
        "organ": organ,
        "output_dir": output_dir,
        "networks": ",".join(chosen),
        "minutes": minutes,
        "steps": steps,
        "cases": cases,
        "with_image": str(is_true(with_image)).lower(),
        "seed": seed,
    }
    command = "python -m scripts reproduce " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    with FolderLock(out):
        links = {key: link_files([pair[key] for pair in test], out / "test" / f"{key}s") for key in ("image", "label")}
        data = cache(lambda part: read_cases(pack, pairs[part]))
        trained = []
        for name in chosen:
            done = train_and_segment(name, pack, dataset_dir, pairs, test, data, budget, seed, on, out)
            results = {}
            for way in [SHAPE, IMAGE] if is_true(with_image) else [SHAPE]:
                where = out / way.replace(" ", "_") / name
                results[way] = where / "eval" / "summary.csv"
                if not is_scored(where, sorted((out / "masks" / name).iterdir())):
                    benchmark(
                        organ,
                        str(links["label"]),
                        mask_dir=str(out / "masks" / name),
                        image_dir=str(links["image"]) if way == IMAGE else "",
                        output_dir=str(where),
                        presets=[PRESET],
                        device=device,
                        seed=seed,
                        processes=1,
                    )
            trained.append(Trained(name, done["step"], done["seconds"], done["validation_dice"], results))
        counts = {part: len(found) for part, found in pairs.items()} | {"scored": len(test)}
        write_plot(out / PLOT, summaries_of(trained), PRESET)
        write_text(out / "benchmarks.md", page(pack, command, counts, budget, seed, on, trained))
    return str(out / "benchmarks.md")


def train_and_segment(
    name: str,
    pack: OrganPack,
    dataset_dir: str,
    pairs: Mapping[str, Sequence[Mapping[str, str]]],
    test: Sequence[Mapping[str, str]],
    data: Callable[[str], list[Case]],
    budget: Budget,
    seed: int,
    device: torch.device,
    out: Path,
) -> dict[str, Any]:
    """Train a network where that is not done, and write its masks of the test cases where they are not there.

    Returns:
        Its finished checkpoint.
    """
    folder = out / "networks" / name
    torch.manual_seed(zlib.crc32(f"{seed}/{name}".encode()))  # of the weights
    task = task_of(pack, data("train"))
    peer = PEERS[name](task)
    names = [case_name(pair["label"]) for pair in pairs["train"]]
    made_of = {"organ": pack.name, "cases": names, "block": list(task.block), "batch": BATCH, "seed": seed}
    made_of |= {"steps": budget.steps, "seconds": budget.seconds, "dataset_dir": str(Path(dataset_dir).resolve())}
    made_of |= {"spacing_mm": list(task.spacing_mm), "network": json.dumps(task.network, sort_keys=True, default=str)}
    done = load_finished(peer, folder / "checkpoint.pt", made_of)
    if done is None:
        batches = Batches(pack, task, data("train"), seed)
        done = train(peer, batches, data("validation")[:VALIDATED], folder, budget, made_of, device)
    peer.to(device)
    wanted = {out / "masks" / name / f"{case_name(pair['label'])}.nii.gz": pair["image"] for pair in test}
    for file in (out / "masks" / name).glob("*"):
        if file not in wanted:
            file.unlink()  # of an earlier run with other cases
    for file, image in wanted.items():
        if not is_newer(file, [folder / "checkpoint.pt"]):
            write_mask(peer, pack, image, file, device)
    return done


def link_files(files: Sequence[str], folder: Path) -> Path:
    """Fill a folder with links to files, in place of those of an earlier run, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if not link.is_symlink():
            raise ValueError(f"{link} is of no earlier run: give an --output_dir of its own")
        link.unlink()
    for file in files:
        (folder / Path(file).name).symlink_to(Path(file).resolve())
    return folder


def is_scored(folder: Path, masks: Sequence[Path]) -> bool:
    """Whether a folder holds the benchmark of these masks, and of no others."""
    links = {link.name for link in (folder / "cases").glob("*")}
    return is_newer(folder / "eval" / "summary.csv", masks) and links == {mask.name for mask in masks}


def is_newer(file: Path, others: Sequence[Path]) -> bool:
    """Whether a file is there and was written after the others."""
    return file.is_file() and all(file.stat().st_mtime >= other.stat().st_mtime for other in others)
