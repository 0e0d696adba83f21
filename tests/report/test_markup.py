import base64
import io
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from cxr.report.markup import render, thumbnail


def template(folder: Path, content: str) -> Path:
    file = folder / "some.html.j2"
    file.write_text('{% extends "page.html.j2" %}{% block content %}' + content + "{% endblock %}")
    return file


def test_a_template_of_any_folder_has_the_shared_page_around_it(tmp_path: Path) -> None:
    page = render(template(tmp_path, "<p>{{ name }}</p>"), name="ward")
    assert "<p>ward</p>" in page
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page


def test_text_from_the_data_is_escaped(tmp_path: Path) -> None:
    page = render(template(tmp_path, '<img alt="{{ name }}">'), name='"><script>alert(1)</script>')
    assert '<img alt="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">' in page


def test_a_fact_that_the_template_misses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="name"):
        render(template(tmp_path, "{{ name }}"))


def test_a_thumbnail_is_a_small_jpeg_with_the_aspect_of_the_image() -> None:
    uri = thumbnail(Image.new("L", (400, 200), 90), 100)
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (100, 50)
