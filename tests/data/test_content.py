import hashlib
import io

from PIL import Image

from agssp.data.content import content_hash


def test_every_form_of_an_image_has_the_hash_of_its_bytes(tmp_path):
    assert content_hash(b"") == hashlib.sha256().hexdigest()
    file = io.BytesIO()
    Image.new("L", (3, 2), 7).save(file, "PNG")
    content = file.getvalue()
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    forms = [
        content,
        tmp_path / "a.png",
        str(tmp_path / "b.png"),
        {"path": str(tmp_path / "a.png"), "bytes": None},
        {"path": "elsewhere.png", "bytes": content},
    ]
    assert {content_hash(form) for form in forms} == {expected}


def test_decoded_images_are_told_apart_by_size_and_mode():
    images = [Image.new("L", (3, 2)), Image.new("L", (2, 3)), Image.new("P", (3, 2)), Image.new("L", (3, 2), 1)]
    assert len({content_hash(image) for image in images}) == 4
    assert content_hash(images[0]) == content_hash(images[0].copy())
