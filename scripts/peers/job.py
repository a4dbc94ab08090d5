"""`python -m scripts reproduce`: the paper's comparison on one data set: seven networks, and their masks refined."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cases.files import write_text
from ..cases.lock import FolderLock
from ..cases.split import evenly_spaced
from ..evaluation.benchmark import benchmark
from ..run.options import is_true
from ..unet.images import require_data, training_pairs
from .masks import is_newer, mask_file, setup_of, train_and_segment
from .networks import ALL, choose_networks
from .page import IMAGE, PLOT, PRESET, SHAPE, Trained, page, summaries_of
from .plot import write_plot


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
    setup = setup_of(organ, dataset_dir, minutes, steps, seed, device)
    pack = setup.pack
    pairs = {part: training_pairs(dataset_dir, pack.split, part) for part in ("train", "validation", "test")}
    for part in ("train", "test"):
        require_data(pairs[part], dataset_dir)
    test = [pairs["test"][i] for i in evenly_spaced(len(pairs["test"]), cases or len(pairs["test"]))]
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
        trained = []
        for name in chosen:
            masks = out / "masks" / name
            network = out / "networks" / name
            done = train_and_segment(setup, name, network, pairs["train"], pairs["validation"], test, masks)
            for file in set(masks.iterdir()) - {mask_file(masks, pair) for pair in test}:
                file.unlink()  # of an earlier run with other cases
            results = {}
            for way in [SHAPE, IMAGE] if is_true(with_image) else [SHAPE]:
                where = out / way.replace(" ", "_") / name
                results[way] = where / "eval" / "summary.csv"
                if not is_scored(where, sorted(masks.iterdir())):
                    benchmark(
                        organ,
                        str(links["label"]),
                        mask_dir=str(masks),
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
        write_text(out / "benchmarks.md", page(pack, command, counts, setup.budget, seed, setup.device, trained))
    return str(out / "benchmarks.md")


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
