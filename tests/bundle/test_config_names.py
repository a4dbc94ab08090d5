"""The configs refer to their parts by name, and an overlay keeps what it does not replace on purpose."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ReferenceResolver

OVERLAYS = {  # overlay → the config it lies over
    "cohort": "refine",
    "evaluate_network": "train",
    "multi_gpu_train": "train",
    "multi_gpu_train_prior": "train_prior",
    "paper_prior": "train_prior",
}
LEFT_OUT = {  # overlay → handlers of the base that have no place in it
    "evaluate_network": {"average", "scores_curves", "best_weights", "early_stop"},  # they serve training
}
NOT_HEEDED = {  # overlay → ids of the base that have no place in it
    "multi_gpu_train_prior": {"command"},  # that of the processes which train further priors
}
ENGINES = {"evaluate_network": ["validate::evaluator"]}  # else all that `run` reaches
POSITION = re.compile(r"@[\w:#]*[:#]\d|@[\w:#]*(_process|handlers)\s*\[")


def texts(config: Any) -> Iterator[str]:
    """All strings in a config's item."""
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from texts(item)
    elif isinstance(config, str):
        yield config


def references(config: Any) -> set[str]:
    """The ids that a config's item refers to, their parts joined by `::`."""
    return {name for text in texts(config) for name in ReferenceResolver.match_refs_pattern(text)}


def reached(parser: ConfigParser, ids: list[str]) -> set[str]:
    """The ids that items refer to, and those that these refer to in turn."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        new = references(parser[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def handlers(ids: set[str]) -> set[str]:
    """The names of the handlers among ids."""
    return {name.removeprefix("handlers::") for name in ids if name.startswith("handlers::")}


@pytest.fixture(scope="module")
def parse(bundle_root: Path):
    def parse(*names: str) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config([str(bundle_root / "configs" / f"{name}.yaml") for name in names])
        return parser

    return parse


def jobs(bundle_root: Path) -> list[tuple[str, ...]]:
    """Every config by itself, an overlay on its base."""
    names = sorted(file.stem for file in (bundle_root / "configs").glob("*.yaml"))
    return [(OVERLAYS[name], name) if name in OVERLAYS else (name,) for name in names]


def test_every_reference_resolves(bundle_root, parse):
    for names in jobs(bundle_root):
        parser = parse(*names)
        missing = {name for name in references(parser.get()) if name not in parser}
        assert not missing, f"{' + '.join(names)} refers to {missing}"


def test_no_config_refers_to_a_position_in_a_list(bundle_root, parse):
    for names in jobs(bundle_root):
        positions = [text for text in texts(parse(*names).get()) if POSITION.search(text)]
        assert not positions, f"{names[-1]}: {positions}"


@pytest.mark.parametrize("text", ["@train#handlers#0", "$@validate::handlers::3.x()", "$@train#handlers[: 5]"])
def test_positions_are_recognised(text):
    assert POSITION.search(text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_keeps_the_handlers_of_its_base(parse, overlay):
    roots = ENGINES.get(overlay, ["run"])
    before, after = (
        handlers(reached(parse(*names), roots)) for names in ((OVERLAYS[overlay],), (OVERLAYS[overlay], overlay))
    )
    assert before - after == LEFT_OUT.get(overlay, set())


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name.startswith("multi_gpu")])
def test_training_on_several_gpus_heeds_every_option_of_the_base(parse, overlay):
    before = reached(parse(OVERLAYS[overlay]), ["initialize", "run"])
    after = reached(parse(OVERLAYS[overlay], overlay), ["initialize", "run"])
    assert before - after == NOT_HEEDED.get(overlay, set())


@pytest.mark.parametrize("config", ["train", "train_prior"])
def test_every_named_handler_is_used(parse, config):
    parser = parse(config)
    assert handlers(reached(parser, ["run"])) == set(parser["handlers"])


@pytest.mark.parametrize("config", ["train", "train_prior"])
def test_handlers_of_hosts_are_a_list_of_components(parse, config):
    """MONAI, MONAI Label and trackers look for `_target_` in each item of this list, and add to it."""
    assert parse(config)["train#handlers"] == []
