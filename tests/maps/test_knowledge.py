"""Knowledge files: the packaged ones fit, and each mistake in one's own is named."""

import open_clip
import pytest

from agssp.cli import main
from agssp.errors import InputError
from agssp.maps.knowledge_base import KnowledgeBase, packaged_files
from agssp.maps.prompts import TEMPLATES, anomalous_states, empty_prompts, fill_templates, normal_states
from agssp.maps.tokens import count_tokens

WANTED = {
    "casting_billet": 6,
    "steel_pipe": 4,
    "steel_plate": 10,
    "hot_rolled_strip": 13,
    "cold_rolled_strip": 1,
    "steel_rail": 1,
    "aluminium_plate": 1,
    "aluminium_strip": 1,
    "aluminium_ingot": 1,
    "magnetic_tile": 1,
    "ball_screw": 1,
    "screw": 1,
    "metal_nut": 1,
    "pump_impeller": 1,
    "metal_surface": 1,
}


def test_packaged_categories():
    metal = KnowledgeBase.load("metal")
    assert set(metal.categories) == set(WANTED)
    for name, least in WANTED.items():
        assert len(metal.for_category(name).defects) >= least
    assert sum(len(KnowledgeBase.load(name).categories) for name in packaged_files()) == len(WANTED)


def test_the_papers_defects():
    """What the paper's two validation sets are labelled with."""
    steel = KnowledgeBase.load("steel")
    assert set(steel.for_category("steel_pipe").defects) == {"warp", "external fold", "wrinkle", "scratch"}
    assert set(steel.for_category("casting_billet").defects) == {
        "scratch",
        "weld slag",
        "cutting opening",
        "water slag mark",
        "slag skin",
        "longitudinal crack",
    }


def test_words_that_only_look_like_placeholders(tmp_path):
    text = "plate: {object: steel plate no. 2, defects: {xx mark: 'todorokite, exx. rust'}}\n"
    assert KnowledgeBase.load(write(tmp_path, text)).for_category("plate").defects == {
        "xx mark": "todorokite, exx. rust"
    }
    shared = "base: &base {object: a, normal: [b]}\nplate: {<<: *base, object: c}\n"
    assert KnowledgeBase.load(write(tmp_path, shared)).for_category("plate").object == "c"


@pytest.mark.slow
def test_every_packaged_prompt_fits_the_context():
    tokenizer = open_clip.get_tokenizer("ViT-B-16-plus-240")
    metal = KnowledgeBase.load("metal")
    prompts = [
        prompt
        for entry in metal.categories.values()
        for prompt in fill_templates([*normal_states(entry), *anomalous_states(entry)])
    ]
    longest = max(count_tokens(tokenizer, prompt) for prompt in prompts)
    assert longest <= 77
    assert metal.check_length(lambda text: count_tokens(tokenizer, text), 77) == longest


def test_token_count_is_the_tokenizers():
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    for text in ("", "a photo of a steel plate.", "Non-conductive  spot, 3 mm"):
        assert count_tokens(tokenizer, text) == int(tokenizer(text)[0].argmax()) + 1  # the end has the largest number


def test_empty_prompts():
    assert empty_prompts()[0] == "a cropped photo of the."
    assert len(empty_prompts()) == len(TEMPLATES) == len(set(TEMPLATES)) == 22


GOOD = "plate: {object: steel plate, normal: [even steel plate], defects: {scratch: a bright line}}\n"


def write(tmp_path, text):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    return file


def test_a_good_file(tmp_path, capsys):
    file = write(tmp_path, GOOD)
    main(["knowledge", "check", str(file)])
    printed = capsys.readouterr().out
    assert "plate: steel plate, 1 normal phrases, 1 defects" in printed
    assert "of the 77 tokens of ViT-B-16-plus-240" in printed
    assert KnowledgeBase.load(file).hash == KnowledgeBase.load(write(tmp_path, GOOD + "# a remark\n")).hash
    assert KnowledgeBase.load(file).hash != KnowledgeBase.load(write(tmp_path, GOOD.replace("even", "flat"))).hash


def test_list_shows_the_packaged(capsys):
    main(["knowledge", "list"])
    assert "pump_impeller" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- plate", "expected a table of categories, got list"),
        ("plate: [", "not valid YAML"),
        ("plate: steel plate", "category 'plate': expected a table"),
        ("plate: {object: steel plate, defect: {a: b}}", "unknown key 'defect'.*did you mean 'defects'"),
        ("plate: {defects: {a: b}}", "`object` must be the words"),
        ("plate: {object: steel plate, normal: even}", "`normal` must be a list"),
        ("plate: {object: steel plate, defects: [scratch]}", "`defects` must map"),
        ("plate: {object: steel plate, defects: {scratch: 3}}", "`defects` must map"),
        ("plate: {object: steel plate, defects: {scratch: '{defect features}'}}", "still holds a placeholder"),
        ("plate: {object: <object>}", "still holds a placeholder"),
        ("plate: {object: TODO}", "'TODO' still holds a placeholder"),
        ("plate: {object: steel plate, normal: [tbd]}", "'tbd' still holds a placeholder"),
        ("plate: {object: steel plate, defects: {scratch: xxx}}", "'xxx' still holds a placeholder"),
        ("plate: {object: steel plate, defects: {scratch: XXXX of metal}}", "still holds a placeholder"),
        ("plate: {object: steel plate, defects: {scratch: '...'}}", "still holds a placeholder"),
        ("plate: {object: steel plate, defects: {scratch: 'a long …'}}", "still holds a placeholder"),
        ("plate: {object: steel plate, defects: {'to-do': a line}}", "'to-do' still holds a placeholder"),
        ("plate: {object: a}\nstrip: {object: b}\nplate: {object: c}", "'plate' is given twice(.|\\s)*line 3"),
        ("plate: {object: a, defects: {scratch: b, pit: c, scratch: d}}", "'scratch' is given twice"),
        ("plate: {object: a, object: b}", "'object' is given twice"),
        ("plate: {object: steel plate, defects: {scratch: '" + "a long bright line " * 20 + "'}}", "takes 10. tokens"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, text, message):
    file = write(tmp_path, text)
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["knowledge", "check", str(file)])
    import re

    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check"], "name a YAML file"),
        (["check", "no_such.yaml"], "no such file, nor one of the packaged: metal, aluminium"),
        (["check", "metal", "--teacher", "ViT-B-61"], "no such model"),
        (["check", "metal", "--category", "steel_plates"], "did you mean steel_plate"),
        (["look"], "expected one of check, list"),
        (["list", "metal"], "takes no file"),
    ],
)
def test_wrong_commands(capsys, words, message):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["knowledge", *words])
    assert message in capsys.readouterr().err


def test_an_unknown_category_shows_near_names():
    metal = KnowledgeBase.load("metal")
    with pytest.raises(InputError, match="did you mean steel_pipe"):
        metal.for_category("steel_pip")
    with pytest.raises(InputError, match="described are"):
        metal.for_category("xyzzy")
