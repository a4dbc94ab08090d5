"""Arguments of a command, as words and as values."""

import pytest

from scripts.run.arguments import ANY, NUMBER, SWITCH, WHOLE, Option, UsageError, nearest, read_arguments

OPTIONS = {
    option.name: option
    for option in (
        Option("label_dir", required=True),
        Option("reference"),
        Option("seed", WHOLE),
        Option("share", NUMBER),
        Option("html", SWITCH),
        Option("weights", ANY),
    )
}


def read(line, others=""):
    return read_arguments("score", line.split(), OPTIONS, others)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("labels/", {"label_dir": "labels/"}),
        ("--label_dir a --seed -2 --share=0.5", {"label_dir": "a", "seed": -2, "share": 0.5}),
        ("--label-dir a --html", {"label_dir": "a", "html": True}),
        ("--html --seed 1 a", {"label_dir": "a", "seed": 1, "html": True}),
        ("a --html no", {"label_dir": "a", "html": False}),
        ("a --nohtml", {"label_dir": "a", "html": False}),
        ("a --weights {code:1.5}", {"label_dir": "a", "weights": {"code:1.5": None}}),
        ("a --weights 3", {"label_dir": "a", "weights": 3}),
        ("--label_dir 7", {"label_dir": "7"}),
        ("a --seed 1 --seed 2", {"label_dir": "a", "seed": 2}),
    ],
)
def test_values_have_the_option_s_type(line, values):
    assert read(line) == values


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a --sede 3", "score has no option --sede: did you mean --seed?"),
        ("a --xyzzy 3", "score has no option --xyzzy: it has --label_dir, "),
        ("a --seed 1.5", "--seed takes a whole number, not '1.5'"),
        ("a --share half", "--share takes a number, not 'half'"),
        ("a --html=maybe", "--html takes true or false, not 'maybe'"),
        ("--html maybe a", "--html takes true or false, not 'maybe'"),
        ("a --weights [", "--weights takes a value, not '['"),
        ("a --seed", "--seed needs a value"),
        ("a --reference --seed 1", "--reference needs a value"),
        ("--seed 1", "score needs --label_dir; see score --help"),
        ("a b 1 2 true {} more", "score takes no further value: 'more'"),
    ],
)
def test_what_cannot_be_meant_is_refused(line, message):
    with pytest.raises(UsageError) as refused:
        read(line)
    assert str(refused.value).startswith(message)


def test_further_options_are_methods_unless_they_are_near_to_an_option():
    found = read("a --initial masks --refined out --l three", "methods")
    assert found == {"label_dir": "a", "initial": "masks", "refined": "out", "l": "three"}
    for name in ("sede", "label", "labeldir", "refrence"):
        with pytest.raises(UsageError, match=f"no option --{name}: did you mean"):
            read(f"a --{name} 4", "methods")


def test_the_nearest_is_the_most_alike_or_the_one_that_begins_so():
    assert (nearest("presets", ["preset", "seed"]), nearest("lab", ["label_dir"])) == ("preset", "label_dir")
    assert nearest("x", ["preset"]) == ""
