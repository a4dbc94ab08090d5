"""The benchmark of an organ pack: every preset and the usual post-processing, on one set of cases, in one table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cases.find import case_name, list_masks, match_name
from ..cases.sources import LabelSource
from ..cases.split import choose_labels, split_patients
from ..organ.pack import OrganPack
from ..refine.settings import RefineSettings
from ..run.jobs import run_job
from ..run.runner import INTERRUPTED
from ..simulation.simulate import choose_kinds, write_simulated
from .evaluate import evaluate
from .networks import network_folders, read_pairs, write_networks
from .pairing import STAGE_MARK
from .scoring import REFERENCE

logger = logging.getLogger(__name__)

PRESETS = ("linear", "paper", "default")


def benchmark(
    organ: str,
    label_dir: str,
    mask_dir: str = "",
    image_dir: str = "",
    simulate: str = "",
    cases: int = 0,
    output_dir: str = "output/benchmark",
    split: str = "",
    presets: str | Sequence[str] = PRESETS,
    device: str = "",
    seed: int = 0,
    processes: int = 2,
    shape_metrics: bool = True,
    html: bool = False,
    source: str = "",
    label_source: str = "",
    resample_labels: bool = False,
    inward_mm: object = "",
) -> str:
    """Run every preset on the same cases and compare them with the initial masks and the usual post-processing.

    With --mask_dir the masks are refined (configs/refine.yaml), with --image_dir beside it as evidence. With
    --image_dir alone the organ's U-Net segments the images first (configs/inference.yaml). With --simulate the masks
    are the labels with simulated errors, for organs without a model to refine. Each preset starts anew: what an earlier
    benchmark left for it in the output folder is removed. `paper` takes about as long as `default`.

    A --mask_dir of several networks' folders runs the benchmark for each, and tells in one table what became of their
    good and of their poor masks.

    Args:
        organ: name of the organ pack, or path of its folder.
        label_dir: folder of true label maps.
        mask_dir: label maps of any model, named like the labels or with a suffix after a '_'. A folder of such folders,
            or a pattern of them in quotes such as 'networks/*', compares several networks.
        image_dir: images, named likewise.
        simulate: a kind of errors, such as mixed (see `python -m scripts simulate --help`), in place of mask_dir.
        cases: with --simulate at most so many, spread evenly over their names; 0 for all.
        output_dir: receives `cases/` (links to the inputs), `simulated/` with the masks of --simulate, a run's output
            folder a preset, and `eval/` with metrics.csv, summary.csv and table.md; of several networks, all that in
            a folder each, and networks.md and networks.csv.
        split: run and score only the organ pack's cases of this split, such as test; empty for all with a label.
        presets: names, separated by commas.
        device: cpu or cuda; empty for cuda where there is one.
        seed: of the refinement, the bootstrap and the simulated errors.
        processes: cases scored at once.
        shape_metrics: false leaves out CD, EMD and point-to-surface distance.
        html: true writes a report.html for each preset.
        source: whose labels the masks have, one of the organ pack's sources, where no names tell.
        label_source: the same of the true label maps.
        resample_labels: true for labels on another grid than the masks or images, see `evaluate`.
        inward_mm: by how much masks are taken inward before they are refined, such as liver=2.5.

    Returns:
        The path of table.md, or of networks.md.

    Raises:
        ValueError: an option makes no sense, no input fits a label, or a folder in the way is no earlier run's.
        SystemExit: a case of a run failed; of several networks, after all is written.
    """
    if bool(mask_dir) + bool(simulate) > 1:
        raise ValueError("give either --mask_dir or --simulate, not both")
    if not mask_dir and not image_dir and not simulate:
        raise ValueError(
            "give --mask_dir with masks to refine, --image_dir with images to segment and refine, or --simulate with a "
            "kind of errors to put into the labels"
        )
    kinds = choose_kinds(simulate) if simulate else []
    if source and not mask_dir:
        raise ValueError("--source tells the labels of --mask_dir; for true label maps give --label_source")
    if len(kinds) > 1:
        raise ValueError(f"--simulate takes one kind of errors, not {len(kinds)}")
    names = [name.strip() for name in presets.split(",")] if isinstance(presets, str) else list(presets)
    pack = OrganPack.load(organ)
    for preset in names:
        RefineSettings.of_pack(pack, preset)  # raises now rather than after the first runs
    out = Path(output_dir).resolve()
    options: dict[str, Any]
    if networks := network_folders(str(mask_dir), LabelSource.of(pack, source)) if mask_dir else {}:
        options = {
            "organ": organ,
            "image_dir": image_dir,
            "split": split,
            "presets": names,
            "device": device,
            "seed": seed,
        }
        options |= {"processes": processes, "shape_metrics": shape_metrics, "html": html, "source": source}
        options |= {"label_source": label_source, "resample_labels": resample_labels, "inward_mm": inward_mm}
        return _compare(networks, pack, label_dir, out, options)
    if simulate:
        shutil.rmtree(out / "simulated", ignore_errors=True)
        mask_dir = str(out / "simulated" / kinds[0])
        truth = LabelSource.of(pack, label_source)
        write_simulated(choose_labels(label_dir, pack, split, cases), truth, out / "simulated", kinds, seed)
    inputs = link_cases(mask_dir or image_dir, label_dir, out / "cases", split_patients(pack, split))

    options = {"organ": organ, "seed": seed, "html": html} | ({"inward_mm": inward_mm} if inward_mm else {})
    options |= {"device": device} if device else {}
    options |= {"image_dir": Path(image_dir).resolve()} if mask_dir and image_dir else {}
    options |= {"source": source} if source else {}
    for preset in names:
        remove_run(out / preset)
    for preset in names:
        job = "refine" if mask_dir else "inference"
        run_job(job, dataset_dir=inputs, output_dir=out / preset, preset=preset, **options)

    initial = str(inputs) if mask_dir else f"{out / names[0]}{STAGE_MARK}initial"
    methods: dict[str, Any] = {REFERENCE: initial} | {preset: str(out / preset) for preset in names}
    return evaluate(
        label_dir,
        organ,
        str(out / "eval"),
        split,
        postprocessing="smooth",
        seed=seed,
        processes=processes,
        shape_metrics=shape_metrics,
        source=source,
        label_source=label_source,
        resample_labels=resample_labels,
        **methods,
    )


def _compare(
    networks: Mapping[str, Path], pack: OrganPack, label_dir: str, out: Path, options: Mapping[str, Any]
) -> str:
    """Run the benchmark for every network, and write the table of all.

    Raises:
        SystemExit: with the exit code 1, after all is written: a case of a network failed or was left out.
    """
    found: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {name: {} for name in options["presets"]}
    failed = {}
    for network, folder in networks.items():  # a folder that does not fit is refused before the first run
        link_cases(folder, label_dir, out / network / "cases", split_patients(pack, options["split"]))
    for network, folder in networks.items():
        metrics = out / network / "eval" / "metrics.csv"
        metrics.unlink(missing_ok=True)  # of an earlier benchmark
        logger.info("%s: %s", network, folder)
        try:
            benchmark(label_dir=label_dir, mask_dir=str(folder), output_dir=str(out / network), **options)
        except SystemExit as stopped:
            if stopped.code == INTERRUPTED:
                raise
            failed[network] = "" if metrics.is_file() else ": it is not in the tables"
        for preset, pairs in found.items() if metrics.is_file() else ():
            pairs.update({(network, s): own for s, own in read_pairs(metrics, preset).items()})
    notes = [f"{network}: cases failed or were left out{said}; see its folder." for network, said in failed.items()]
    part = f", {options['split']} split" if options["split"] else ""
    table = write_networks(out, f"Networks: {pack.name}{part}", notes, found)
    if failed:
        print(table)
        raise SystemExit(1)
    return str(table)


def link_cases(
    source_dir: str | Path, label_dir: str | Path, folder: Path, wanted: Sequence[str] | None = None
) -> Path:
    """Fill a folder with links to the files that belong to a label, in place of the links of an earlier run.

    Args:
        source_dir: NIfTI files.
        label_dir: true label maps; a file belongs to the label whose name it has, or begins with up to a '_'.
        folder: where the links go.
        wanted: names of the labels to take; None for all.

    Returns:
        The folder.

    Raises:
        ValueError: no file belongs to a label, or the folder holds something else than links.
    """
    labels = {case_name(path) for path in list_masks(label_dir)}
    files = {path: match_name(case_name(path), labels) for path in list_masks(source_dir)}
    chosen = [path for path, label in files.items() if label and (wanted is None or label in wanted)]
    if not chosen:
        raise ValueError(f"no file of {source_dir} is named like a label of {label_dir} to be scored")
    folder.mkdir(parents=True, exist_ok=True)
    foreign = [path.name for path in folder.iterdir() if not path.is_symlink()]
    if foreign:
        raise ValueError(f"{folder} holds {foreign[0]}, which is no link of an earlier benchmark: move it away")
    for path in folder.iterdir():
        path.unlink()
    for path in chosen:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def remove_run(folder: Path) -> None:
    """Remove the output folder of an earlier run, which its report tells.

    Raises:
        ValueError: the folder holds something, but no report.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "report.json").is_file():
            raise ValueError(f"{folder} is not the output of an earlier run: move it away, or give another output_dir")
        shutil.rmtree(folder)
