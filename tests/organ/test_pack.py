"""What stands in an organ.yaml: typed fields, and a plain line that names file, key and remedy where it is wrong."""

from dataclasses import fields

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts.organ import pack as module
from scripts.organ.checks import as_name, safe_name
from scripts.organ.imaging import Augment, Intensity, PatchSize
from scripts.organ.pack import MODELS, OrganError, OrganPack, Structure, known_organs

LEAST = {"name": "blob", "labels": {1: "front", 2: "back"}, "structures": [{"name": "whole", "labels": [1, 2]}]}
KEYS = [one.name for kind in (OrganPack, Structure, Augment, Intensity, PatchSize) for one in fields(kind)]
NUMBERS = {"spacing_mm": ["2e0", 1, "1.5"], "nsd_tolerance_mm": "2e-1", "augment": {"scale": "1e-1"}}


def load(folder, **changes) -> OrganPack:
    """The least pack with changes; None removes a key."""
    values = {key: value for key, value in (LEAST | changes).items() if value is not None}
    (folder / "organ.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return OrganPack.load(folder)


def structure(**changes) -> dict:
    return {"structures": [LEAST["structures"][0] | changes]}


def refused(folder, **changes) -> str:
    """The one plain line that says why a pack is refused."""
    with pytest.raises(OrganError) as caught:
        load(folder, **changes)
    message = str(caught.value)
    assert message.startswith(str(folder / "organ.yaml")) and "\n" not in message and len(message) < 500
    return message.removeprefix(f"{folder / 'organ.yaml'}").removeprefix(": ")


@pytest.mark.parametrize("organ", sorted(file.parent.name for file in MODELS.glob("*/organ.yaml")))
def test_every_pack_of_the_bundle_loads(organ):
    pack = OrganPack.load(organ)
    assert pack.name == organ and pack.description and pack.modality in ("CT", "MR")
    assert set(pack.provenance) == {"dataset", "source", "licence", "citation"}
    assert set(pack.split) == {"train", "validation", "test"}
    assert pack.default is (organ == known_organs()[0])
    assert all(one.prior.parent.parent == MODELS and one.prior.is_file() for one in pack.structures)
    assert bool(pack.network) == (PatchSize() != pack.patch_size)


def test_what_is_left_out_has_its_default(tmp_path):
    pack = load(tmp_path)
    assert pack.spacing_mm == (1.0, 1.0, 1.0) and pack.intensity == Intensity("zscore") and pack.refine == {}
    assert pack.patch_size.infer == (-1, -1, -1) and pack.augment == Augment(False, 10.0, 0.1, 8.0)
    assert (pack.default, pack.modality, pack.network, pack.split) == (False, "", {}, {})
    (whole,) = pack.structures
    assert whole.prior == tmp_path / "whole.safetensors" and (whole.mirror, whole.side, whole.refine) == (
        "never",
        "",
        {},
    )
    assert pack.file == tmp_path / "organ.yaml" and not hasattr(pack, "settings")


def test_a_number_that_yaml_takes_for_text_is_one(tmp_path):
    pack = load(tmp_path, **NUMBERS)
    assert pack.spacing_mm == (2.0, 1.0, 1.5) and pack.nsd_tolerance_mm == 0.2 and pack.augment.scale == 0.1
    assert load(tmp_path, labels={"1": "front", "2": "back"}).labels == {1: "front", 2: "back"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intesity": {"kind": "zscore"}}, "unknown key 'intesity': did you mean 'intensity'?"),
        ({"Labels": {}}, "unknown key 'Labels': did you mean 'labels'?"),
        ({"colour": "red"}, "unknown key 'colour': choose one of name, labels, structures, "),
        ({7: 7}, "unknown key 7: choose one of"),
        (structure(labls=[1]), "structures: whole: unknown key 'labls': did you mean 'labels'?"),
        ({"intensity": {"knd": "zscore"}}, "intensity: unknown key 'knd': did you mean 'kind'?"),
        ({"patch_size": {"training": [8, 8, 8]}}, "patch_size: unknown key 'training': did you mean 'train'?"),
        ({"augment": {"flips": True}}, "augment: unknown key 'flips': did you mean 'flip'?"),
        ({"split": {"trian": []}}, "split: unknown key 'trian': did you mean 'train'?"),
        ({"provenance": {"license": "MIT"}}, "provenance: unknown key 'license': did you mean 'licence'?"),
        ({"sources": {"btcv": {5: "frnt"}}}, "sources: btcv: 5: unknown label 'frnt': did you mean 'front'?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path, changes, message):
    (tmp_path / "organ.yaml").write_text(yaml.safe_dump(LEAST | changes))
    with pytest.raises(OrganError) as caught:
        OrganPack.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'organ.yaml'}: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, " lacks the key 'name': add it"),
        ({"labels": None}, " lacks the key 'labels': add it"),
        (structure(labels=[]), "structures: whole: labels must be a list of at least 1 entry, such as [a], not []"),
        ({"structures": []}, "structures must be a list of at least one structure"),
        ({"structures": {"whole": [1]}}, "structures must be a list"),
        ({"structures": ["whole"]}, "structures: entry 1 must be a mapping, lines of 'key: value', not 'whole'"),
        ({"structures": [{"labels": [1]}]}, "structures: entry 1 lacks the key 'name': add it"),
        ({"labels": {}}, "labels must be a mapping"),
        ({"labels": ["front"]}, "labels must be a mapping"),
        ({"labels": {0: "air"}}, "labels: the key must be a whole number from 1 to 1048576, not 0"),
        ({"labels": {-1: "air"}}, "labels: the key must be a whole number from 1"),
        ({"labels": {1.5: "air"}}, "labels: the key must be a whole number from 1 to 1048576, not 1.5"),
        ({"labels": {2**31 - 1: "far"}}, "labels: the key must be a whole number from 1 to 1048576, not 2147483647"),
        ({"labels": {True: "x"}}, "labels: the key must be a whole number from 1 to 1048576, not true"),
        ({"labels": {1: False}}, "labels: 1 must be a name"),
        ({"labels": {1: "a", 2: "A"}}, "labels: several are called 'a'"),
        ({"labels": {1: "a", "01": "b"}}, "labels has a key twice"),
        (structure(labels=[1, 3]), "structures: whole: labels [3] are none of [1, 2], which `labels` lists"),
        ({"codes": {1: "Heart", 3: "Aorta"}}, "codes: [3] are none of [1, 2], which `labels` lists: add them there"),
        ({"codes": ["Heart"]}, "codes must be a mapping"),
        (structure(labels=[1, 1]), "structures: whole: labels names 1 twice"),
        (structure(labels=1), "structures: whole: labels must be a list"),
        (
            structure(mirror="sometimes"),
            "structures: whole: mirror must be one of never, auto, always, not 'sometimes'",
        ),
        (structure(refine=[1]), "structures: whole: refine must be a mapping"),
        ({"spacing_mm": [1, 2]}, "spacing_mm must be three numbers, one an axis, such as [1, 1, 1], not [1, 2]"),
        ({"spacing_mm": 1.0}, "spacing_mm must be three numbers"),
        ({"spacing_mm": [1, 1, -1]}, "spacing_mm: number 3 must be a number from 0.01 to 100, not -1"),
        ({"spacing_mm": [1, float("nan"), 1]}, "spacing_mm: number 2 must be a number from 0.01 to 100, not nan"),
        ({"spacing_mm": [float("inf"), 1, 1]}, "spacing_mm: number 1 must be a number"),
        ({"nsd_tolerance_mm": "wide"}, "nsd_tolerance_mm must be a number from 0 to 1000, not 'wide'"),
        ({"nsd_tolerance_mm": True}, "nsd_tolerance_mm must be a number from 0 to 1000, not true"),
        ({"nsd_tolerance_mm": 10**400}, "nsd_tolerance_mm must be a number"),
        ({"default": "false"}, "default must be true or false, without quotes, not 'false'"),
        ({"default": 1}, "default must be true or false, without quotes, not 1"),
        ({"modality": 7}, "modality must be text, in quotes where it looks like something else, not 7"),
        ({"intensity": "zscore"}, "intensity must be a mapping"),
        ({"intensity": {"kind": "hounsfield"}}, "intensity: kind must be one of zscore, window, percentiles"),
        ({"intensity": {"kind": "minmax"}}, "take 'percentiles', and train the pack's U-Net anew"),
        ({"intensity": {"kind": "window", "low": 0}}, "intensity: kind 'window' needs `low` and `high`"),
        ({"intensity": {"kind": "window", "low": 5, "high": 5}}, "intensity: kind 'window' needs `low` and `high`"),
        ({"intensity": {"low": 0, "high": 1}}, "intensity: kind 'zscore' has no `low` and `high`"),
        (
            {"patch_size": {"train": [8, 8, 0]}},
            "patch_size: train: number 3 must be a whole number from 1 to 1024, or -1",
        ),
        ({"augment": {"flip": "no"}}, "augment: flip must be true or false"),
        ({"split": {"train": "a.nii.gz"}}, "split: train must be a list, not 'a.nii.gz'"),
        ({"split": {"test": ["a", "a"]}}, "split: test names 'a' twice"),
        ({"provenance": {"dataset": ["a"]}}, "provenance: dataset must be text"),
        ({"network": "UNet"}, "network must be a mapping"),
        ({"refine": None, "sources": {"x": {True: "front"}}}, "sources: x: the key must be a whole number"),
    ],
)
def test_a_wrong_value_is_said_in_one_line(tmp_path, changes, message):
    assert message in refused(tmp_path, **changes)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/b", "a\\b", "..", ".hidden", "", " a", "a\n", "$x", "@x", "%x"]
)
def test_names_cannot_lead_out_of_their_folder(tmp_path, name):
    assert "must be a name of at most 64 letters, digits, '_', '-'" in refused(tmp_path, **structure(name=name))
    assert "must be a name" in refused(tmp_path, labels={1: name, 2: "back"})
    assert "must be a name" in refused(tmp_path, name=name)


@pytest.mark.parametrize(
    "prior",
    [
        "../a.safetensors",
        "../../a.safetensors",
        "../../b/a.safetensors",
        ".././a.safetensors",
        "b/../a.safetensors",
        "/a.safetensors",
        "a/b.safetensors",
        ".safetensors",
        "a.pt",
        7,
    ],
)
def test_a_prior_is_a_file_of_the_pack_s_folder(tmp_path, prior):
    message = refused(tmp_path, **structure(prior=prior))
    assert "structures: whole: prior must be the name of a file in the pack's own folder" in message


def test_a_prior_is_no_other_file_of_the_pack(tmp_path):
    assert "give `prior` another name" in refused(tmp_path, structures=[{"name": "joint", "labels": [1]}])
    assert "give `prior` another name" in refused(tmp_path, **structure(prior="evidence.safetensors"))
    own = load(tmp_path, **structure(name="Vorhof links 2-a", prior="v1.2.safetensors")).structures[0]
    assert own.prior == tmp_path / "v1.2.safetensors"


def test_a_prior_may_be_that_of_a_pack_beside_it(tmp_path):
    (tmp_path / "abdomen").mkdir()
    borrowed = load(tmp_path / "abdomen", **structure(prior="../liver/whole.safetensors")).structures[0]
    assert borrowed.prior == tmp_path / "liver" / "whole.safetensors"


def test_names_that_differ_in_case_only_would_share_their_files(tmp_path):
    both = [{"name": "lobe", "labels": [1]}, {"name": "Lobe", "labels": [2]}]
    assert "have the same name" in refused(tmp_path, structures=both)


@given(st.text(max_size=100))
def test_any_text_can_be_made_a_name(text):
    assert safe_name(as_name(text), "here") == as_name(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [a\nlabels: 1\n", "is no valid YAML in line 2: "),
        (b"name: a\n\tlabels: 1\n", "is no valid YAML in line 2: "),
        (b"name: caf\xe9\n", "is no UTF-8 text: save it as UTF-8"),
        (b"name: a\nlabels: {1: a}\nname: b\n", "is no valid YAML in line 3: the key 'name' stands twice"),
        (b"labels: {1: a, 1: b}\n", "is no valid YAML in line 1: the key '1' stands twice"),
        (b"- name\n", "is no mapping: write lines of 'key: value'"),
        (b"", "is no mapping"),
        (
            b"name: !!python/object/apply:os.system [ls]\n",
            "is no valid YAML in line 1: could not determine a constructor",
        ),
        (b"name: 2020-13-45\n", "is no valid YAML: month must be in 1..12"),
        (b"[" * 5000, "is nested too deeply"),
        (b"name: a\x00b\n", "is no valid YAML"),
        (b"{[1]: 2}: 3\n", "is no valid YAML in line 1: found unhashable key"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "organ.yaml").write_bytes(content)
    with pytest.raises(OrganError) as caught:
        OrganPack.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'organ.yaml'} {message}") and "\n" not in str(caught.value)


def test_a_bomb_in_yaml_makes_a_short_message(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    (tmp_path / "organ.yaml").write_text("\n".join([*lines, "name: *a11"]))
    with pytest.raises(OrganError, match="unknown key 'a0'"):
        OrganPack.load(tmp_path)
    (tmp_path / "organ.yaml").write_text("name:\n  " + "\n  ".join(lines))
    with pytest.raises(OrganError, match="name must be a name") as caught:
        OrganPack.load(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("organ", ["spleen", "a\0b", "x" * 5000, "", "../organ"])
def test_an_organ_that_is_not_there_is_said_with_those_that_are(organ):
    with pytest.raises(OrganError, match="no organ pack .* Known organs: hippocampus, abdomen, brain, kidneys"):
        OrganPack.load(organ)


@pytest.mark.parametrize(
    ("organ", "said"),
    [
        ("hipocampus", "Is it hippocampus\\?"),
        ("lung", "Is it lung_lobes\\?"),
        ("spleen", "The pack abdomen refines spleen: --organ abdomen\\."),
        ("gallbladder", "[a-z]\\. Train a new one"),  # in a pack, but left as it is
        ("l", "[a-z]\\. Train a new one"),
    ],
)
def test_the_pack_that_is_probably_meant_is_named(organ, said):
    with pytest.raises(OrganError, match=said):
        OrganPack.load(organ)


def test_a_broken_pack_does_not_keep_the_others_from_being_listed(tmp_path, monkeypatch):
    for name, content in {"a": "name: [", "b": "default: true", "c": "default: 'true'"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "organ.yaml").write_text(content)
    monkeypatch.setattr(module, "MODELS", tmp_path)
    assert known_organs() == ["b", "a", "c"]


def test_comments_and_names_may_have_any_script(tmp_path):
    text = "# Vorhof, é, 心\nname: coeur\nlabels: {1: cœur}\nstructures: [{name: 心房, labels: [1]}]\n"
    (tmp_path / "organ.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert OrganPack.load(tmp_path).structures[0].name == "心房"


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(KEYS), ANY_VALUE)
def test_whatever_stands_under_a_key_it_is_taken_or_refused_in_one_line(key, value):
    try:
        pack = OrganPack.of(LEAST | {key: value}, MODELS / "blob")
    except OrganError as error:
        assert str(error).startswith(f"{MODELS / 'blob' / 'organ.yaml'}") and "\n" not in str(error)
        assert len(str(error)) < 1500
    else:
        assert all(one.prior.parent == MODELS / "blob" for one in pack.structures)


def test_every_key_is_checked_but_the_folder_and_what_is_found_from_others():
    assert [one.name for one in fields(OrganPack) if not one.metadata] == ["folder", "source_sides", "members"]
