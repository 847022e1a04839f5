import pytest

from agssp.hub.paths import is_machine_path, without_paths


@pytest.mark.parametrize("value", [None, "", {}, [], 3, 0.5, True, "me/steel", "runs/first", "weights from timm 1/2"])
def test_what_holds_no_absolute_path_stays(value):
    assert without_paths(value) == value


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("/home/ann/steel", "steel"),
        ("/home/ann/my steel/", "my steel"),
        ("~/steel", "steel"),
        (r"C:\Users\ann\steel", "steel"),
        ("local-dir:/home/ann/clip", "local-dir:clip"),
        ("file:///home/ann/steel", "steel"),
        ("neck of /home/ann/yolo.safetensors: 3 loaded", "neck of yolo.safetensors: 3 loaded"),
        ("cannot read '/home/ann/a.png'", "cannot read 'a.png'"),
        ("teacher local-dir:/home/ann/clip was used", "teacher local-dir:clip was used"),
        (
            """agssp finetune a --optim-args '{"file": "/home/ann/x", "url": "https://hub/x"}'""",
            """agssp finetune a --optim-args '{"file": "x", "url": "https://hub/x"}'""",
        ),
        ("see https://huggingface.co/me/steel, or 1/2", "see https://huggingface.co/me/steel, or 1/2"),
        (
            "agssp finetune '/a/my start' --dataset /d/few --output=/o/x",
            "agssp finetune 'my start' --dataset few --output=x",
        ),
    ],
)
def test_a_path_becomes_its_last_part(text, bare):
    assert without_paths(text) == bare
    assert without_paths({"a": [text]}) == {"a": [bare]}


def test_a_path_with_spaces_is_recognised_in_sentences_once_it_is_known():
    facts = {"model": "/home/ann/my start", "start": "weights from /home/ann/my start: 3", "/home/ann/x.png": "bad"}
    assert without_paths(facts) == {"model": "my start", "start": "weights from my start: 3", "x.png": "bad"}


def test_a_slash_is_no_path_of_a_machine():
    assert not is_machine_path("/")
    assert without_paths("a / b") == "a / b"
