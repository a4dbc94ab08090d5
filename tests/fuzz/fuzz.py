"""Which inputs a fuzz has, and its table."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.refine import settings as refine_settings
from tests.fuzz import other_inputs
from tests.fuzz.harness import TROUBLES, Found, Job, added, any_trouble, run
from tests.fuzz.pack import sound_settings, write_fuzz_pack

AT_ONCE = 12  # inputs of a run, where they can share one
SETTINGS = ("organ.yaml", "presets", "options")
SHARES = {**dict.fromkeys(other_inputs.MASKS, 4), **dict.fromkeys(other_inputs.BESIDE, 2), "dataset.json": 2,
          "organ.yaml": 3, "presets": 2, "options": 2}  # fmt: skip
ORDER = [kind for turn in range(4) for kind, share in SHARES.items() if turn < share]


def fuzz(
    folder: Path, count: int, seed: int, workers: int = 1, kind: str | None = None, number: int | None = None
) -> tuple[dict[str, Found], list[tuple[Job, Found]]]:
    """Refine `count` mutated inputs.

    Args:
        folder: of the runs; those without trouble are removed.
        count: how many inputs. Input n of a seed is the same whatever the count is.
        seed: of all random numbers.
        workers: how many runs at once.
        kind: this kind only.
        number: this input only.

    Returns:
        Kind → what came of its inputs; and the runs in which something went wrong, of one input each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pack = write_fuzz_pack(folder / "pack")
    wanted: dict[str, list[int]] = {}
    for n in range(count) if number is None else [number]:
        if kind in (None, ORDER[n % len(ORDER)]):
            wanted.setdefault(ORDER[n % len(ORDER)], []).append(n)
    batches = [(k, part) for k, numbers in wanted.items() for part in _parts(numbers, _at_once(k))]
    build = partial(make_job, pack=pack, seed=seed)
    rows: dict[str, list[Found]] = {k: [] for k in SHARES if k in wanted}
    troubled = []
    with ThreadPoolExecutor(workers) as pool, tqdm(total=count, unit="input", disable=None) as progress:
        jobs = pool.map(lambda batch: list(_run(folder, build, *batch)), batches)
        for (k, numbers), results in zip(batches, jobs, strict=True):
            rows[k] += [found for _, found in results]
            troubled += [(job, found) for job, found in results if any_trouble(found)]
            progress.update(len(numbers))
    return {k: added(found) for k, found in rows.items()}, troubled


def _run(folder: Path, build: Callable[..., Job], kind: str, numbers: list[int]) -> Iterator[tuple[Job, Found]]:
    """Run inputs together, and one by one where something goes wrong; remove what went well."""
    job = build(kind, numbers, folder=folder / f"{kind.replace(' ', '_')}_{numbers[0]}")
    found = run(job)
    if any_trouble(found) and len(numbers) > 1:
        shutil.rmtree(job.folder)
        for number in numbers:
            yield from _run(folder, build, kind, [number])
        return
    if not any_trouble(found):
        shutil.rmtree(job.folder)
    yield job, found


def _parts(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _at_once(kind: str) -> int:
    return AT_ONCE if kind in other_inputs.MASKS or kind in other_inputs.BESIDE else 1


def make_job(kind: str, numbers: list[int], folder: Path, pack: Path, seed: int) -> Job:
    """Write the inputs of a run."""
    shutil.rmtree(folder, ignore_errors=True)
    masks = folder / "masks"
    masks.mkdir(parents=True)
    makers = other_inputs.MASKS | other_inputs.BESIDE | other_inputs.ALONE
    written: list[Path] = []
    rng = np.random.default_rng([seed, numbers[0]])
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        written += makers.get(kind, other_inputs.sound_mask)(masks, f"case{number}", rng)
    options: dict[str, Any] = {"organ": pack, "device": "cpu"}
    before = None
    if kind == "organ.yaml":
        own = folder / "egg"
        shutil.copytree(pack, own)
        refine = vars(refine_settings.RefineSettings.load())
        (own / "organ.yaml").write_bytes(other_inputs.organ_yaml(sound_settings(), refine, rng))
        options["organ"] = own
    elif kind == "presets":
        (folder / "presets.yaml").write_bytes(other_inputs.presets_yaml(rng))
        before = partial(setattr, refine_settings, "PRESETS", folder / "presets.yaml")
    elif kind == "options":
        options |= other_inputs.options(rng)
    elif kind in other_inputs.BESIDE:
        options["image_dir" if kind == "images" else "prob_dir"] = folder / kind
    return Job(kind, numbers, folder, list(dict.fromkeys(written)), options, kind in SETTINGS, before)


def table(rows: dict[str, Found]) -> str:
    """Return the figures of each kind as a Markdown table."""
    statuses = ("refined", "unchanged", "kept", "failed", "refused")
    lines = ["| mutation | inputs | " + " | ".join([*statuses, *TROUBLES]) + " | peak MB | s an input |"]
    lines.append("|---" * (4 + len(statuses) + len(TROUBLES)) + "|")
    for kind, found in {**rows, "all": added(list(rows.values()))}.items():
        counts = [found.statuses[s] for s in statuses] + [found.troubles[t] for t in TROUBLES]
        figures = " | ".join(str(n) for n in (kind, found.inputs, *counts))
        lines.append(f"| {figures} | {found.peak_mb:.0f} | {found.seconds / max(found.inputs, 1):.2f} |")
    return "\n".join(lines)
