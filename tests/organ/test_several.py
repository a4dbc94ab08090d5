"""Several organ packs as one: labels numbered anew, each structure once, and names that mean one thing only."""

import pytest
import yaml

from scripts.organ.pack import OrganError, OrganPack, known_organs
from scripts.organ.several import ALL, asked_packs, load_packs, union


def pack(name: str, *structures: str, sources: dict | None = None, **settings) -> OrganPack:
    """A pack with one label a structure, none of which has a prior."""
    labels = dict(enumerate(structures, 1))
    shapes = [{"name": own, "labels": [value]} for value, own in labels.items()]
    values = {"name": name, "labels": labels, "structures": shapes, "sources": sources or {}, **settings}
    return OrganPack.of(values, OrganPack.load("liver").folder.with_name(name))


def test_labels_are_numbered_anew_and_names_and_values_lead_to_them():
    liver = pack("liver", "liver", sources={"theirs": {5: "liver", "hepar": "liver"}})
    chest = pack(
        "chest",
        "heart",
        "aorta",
        sources={"theirs": {51: "heart"}, "other": {7: "aorta"}},
        codes={1: "Heart", 2: "Aorta"},
    )
    both = union([liver, chest])
    assert both.codes == {2: "Heart", 3: "Aorta"}
    assert both.labels == {1: "liver", 2: "heart", 3: "aorta"}
    assert [(one.name, one.labels, one.prior.parent.name) for one in both.structures] == [
        ("liver", (1,), "liver"),
        ("heart", (2,), "chest"),
        ("aorta", (3,), "chest"),
    ]
    assert both.sources == {"theirs": {5: 1, "hepar": 1, 51: 2}, "other": {7: 3}}
    assert both.named("theirs")["hepar"] == 1 and both.named()["heart"] == 2
    assert [one.name for one in both.packs] == ["liver", "chest"] and union([liver]) is liver


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pack("liver", "liver"), pack("abdomen", "spleen", "liver")),  # one name
        (pack("liver", "liver", sources={"a": {"Hepar": "liver"}}), pack("abdomen", "spleen", "hepar")),  # the first's
        (pack("liver", "hepar"), pack("abdomen", "spleen", "liver", sources={"b": {"hepar": "liver"}})),  # the second's
        (  # a value
            pack("liver", "hepar", sources={"a": {5: "hepar"}}),
            pack("abdomen", "spleen", "liver", sources={"a": {5: "liver", 1: "spleen"}}),
        ),
    ],
)
def test_of_packs_that_know_a_structure_the_first_one_refines_it(first, second):
    both = union([first, second])
    assert [one.name for one in both.structures] == [first.structures[0].name, "spleen"]
    assert both.members[1].line == f"abdomen: spleen; left to liver: {second.structures[1].name}"
    assert all(label == 1 for meanings in both.sources.values() for key, label in meanings.items() if key != 1)
    swapped = union([second, first])
    assert swapped.members[1].line == f"liver: nothing; left to abdomen: {first.structures[0].name}"
    assert len(swapped.structures) == len(swapped.labels) == 2


def test_what_a_later_pack_knows_of_other_models_leads_to_the_first_one_s_structure():
    liver = pack("liver", "liver", sources={"a": {5: "liver"}})
    abdomen = pack(
        "abdomen", "spleen", "liver", sources={"a": {1: "spleen", 5: "liver"}, "b": {6: "liver", "iecur": "liver"}}
    )
    both = union([liver, abdomen])
    assert both.labels == {1: "liver", 2: "spleen"}
    assert both.sources == {"a": {5: 1, 1: 2}, "b": {6: 1, "iecur": 1}} and both.named("b")["iecur"] == 1


def test_a_later_pack_s_own_name_leads_to_the_first_one_s_structure():
    liver = pack("liver", "hepar", sources={"a": {5: "hepar"}})
    abdomen = pack("abdomen", "spleen", "liver", sources={"a": {5: "liver"}})
    both = union([liver, abdomen])
    assert both.members[1].left == {"liver": "liver"}
    assert both.named()["liver"] == both.named("a")["liver"] == both.named()["hepar"] == 1
    stones = pack("stones", "stone", labels={1: "stone", 2: "liver"}, structures=[{"name": "stone", "labels": [1, 2]}])
    assert "liver" not in union([liver, stones, abdomen]).named()  # it means two things


def test_of_a_whole_whose_halves_another_pack_has_nothing_is_taken_for_one_half():
    halves = pack("halves", "organ_left", "organ_right")
    paired = [{"name": "organ", "labels": [1], "mirror": "auto", "paired": True}]
    both = union([halves, pack("whole", "organ", structures=paired, sources={"a": {7: "organ", "org": "organ"}})])
    assert both.members[1].left == {"organ": "halves"} and both.sources == {"a": {}}
    assert {name: label for name, label in both.named().items() if "halves" not in name} == {
        "organ_left": 1,
        "organ_right": 2,
    }


@pytest.mark.parametrize("abdomen_first", [True, False])
def test_a_label_without_a_structure_is_left_to_the_pack_that_refines_it(abdomen_first):
    abdomen = pack(
        "abdomen",
        "spleen",
        "gallbladder",
        structures=[{"name": "spleen", "labels": [1]}],
        sources={"a": {1: "spleen", 4: "gallbladder", "galle": "gallbladder"}},
    )
    gall = pack("gall", "gallbladder", sources={"b": {9: "gallbladder"}})
    both = union([abdomen, gall] if abdomen_first else [gall, abdomen])
    refined = {one.name: one.labels[0] for one in both.structures}
    assert set(refined) == {"spleen", "gallbladder"} and {name: v for v, name in both.labels.items()} == refined
    assert both.named()["gallbladder"] == both.named()["galle"] == refined["gallbladder"]
    assert both.sources["a"] == {1: refined["spleen"], 4: refined["gallbladder"], "galle": refined["gallbladder"]}
    assert both.sources["b"] == {9: refined["gallbladder"]}
    alone = union([abdomen, pack("heart", "heart")])
    assert alone.labels == {1: "spleen", 2: "gallbladder", 3: "heart"} and alone.named()["galle"] == 2


def test_values_of_one_side_lead_to_that_side_s_structure():
    both = union([pack("halves", "kidney_left", "kidney_right"), OrganPack.load("kidneys")])
    assert both.sources["totalsegmentator"] == {"kidney_right": 2, 2: 2, "kidney_left": 1, 3: 1}
    assert both.labels == {1: "kidney_left", 2: "kidney_right"}


def test_sides_of_a_paired_structure_are_known_by_their_names():
    one = pack("hippocampus", "hippocampus")
    paired = [{"name": "hippocampus", "labels": [1], "mirror": "auto", "paired": True}]
    both = union([pack("halves", "hippocampus_left", "hippocampus_right"), pack("whole", "x", structures=paired)])
    assert both.members[1].left == {"hippocampus": "halves"}
    other = union(
        [pack("whole", "x", structures=[{**paired[0], "mirror": "auto"}]), pack("halves", "hippocampus_left")]
    )
    assert other.labels == {1: "x"} and other.named()["hippocampus_left"] == 1
    assert union([one, pack("amygdala", "amygdala")]).members[1].left == {}


def test_a_name_that_means_different_structures_means_none():
    liver = pack("liver", "liver", sources={"nnunet": {"tumour": "liver"}})
    kidney = pack(
        "kidney", "kidney", labels={1: "kidney", 2: "tumour"}, structures=[{"name": "kidney", "labels": [1, 2]}]
    )
    both = union([liver, kidney])
    assert "tumour" not in both.named() and both.sources == {"nnunet": {}}
    assert both.labels == {1: "liver", 2: "kidney", 3: "kidney_tumour"}
    assert kidney.named()["kidney_tumour"] == 2  # so its own results are read again


def test_all_are_the_trained_packs_those_of_fewer_structures_first(monkeypatch, tmp_path):
    packs = asked_packs(ALL)
    assert sorted(one.folder.name for one in packs) == sorted(known_organs())
    counts = [len(one.structures) for one in packs]
    assert counts == sorted(counts)
    (tmp_path / "new").mkdir()
    new = {"name": "new", "labels": {1: "new"}, "structures": [{"name": "new", "labels": [1]}]}
    (tmp_path / "new" / "organ.yaml").write_text(yaml.safe_dump(new))
    monkeypatch.setattr("scripts.organ.pack.MODELS", tmp_path)
    with pytest.raises(OrganError, match="is trained"):
        asked_packs(ALL)


def test_no_pack_of_the_bundle_takes_another_s_structure_for_its_own():
    assert all(member.pack.structures for member in load_packs("all").members)


@pytest.mark.parametrize("organ", ["liver,kidneys", " liver , kidneys,", ("liver", "kidneys"), "liver,kidneys,liver"])
def test_a_list_is_read_in_its_order(organ):
    assert [one.name for one in load_packs(organ).packs] == ["liver", "kidneys"]


def test_a_name_that_is_no_pack_is_refused_with_those_there_are():
    with pytest.raises(
        OrganError, match="no organ pack 'spline': .* Known organs: hippocampus, abdomen, brain, kidneys"
    ):
        load_packs("liver,spline")
    with pytest.raises(OrganError, match="no organ pack ','"):
        load_packs(",")
    with pytest.raises(OrganError, match="no organ pack 'xxx"):  # longer than a file's name may be
        load_packs("x" * 300)
