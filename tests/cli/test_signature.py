"""Options of a Python command, read from its source."""

import inspect

import pytest

from scripts.cli import main as cli
from scripts.cli.signature import signature_of


@pytest.mark.parametrize("name", cli.FUNCTIONS)
def test_options_and_defaults_are_those_of_the_function(name):
    function = cli.load(cli.FUNCTIONS[name])
    known = signature_of(cli.FUNCTIONS[name])
    expected = inspect.signature(function).parameters
    assert list(known.options) == [one for one, p in expected.items() if p.kind is not p.VAR_KEYWORD]
    assert bool(known.others) == any(p.kind is p.VAR_KEYWORD for p in expected.values())
    for option in known.options.values():
        default = expected[option.name].default
        assert option.required == (default is inspect.Parameter.empty)
        if isinstance(default, bool):
            assert option.default == str(default).lower()
        elif isinstance(default, (int, float)):
            assert option.read(option.default) == default
        elif isinstance(default, str):
            assert option.default == default


def test_the_docstring_s_sections_are_told_apart():
    known = signature_of("evaluation.evaluate:evaluate")
    assert "Args:" not in known.description and "Raises" not in known.description
    assert "largest component" in known.options["postprocessing"].help  # goes on over several lines
