from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxr.endpoint.limits import Limits
from cxr.images.synthetic import draw_examples
from cxr.serving.package import Package
from cxr.serving.registry import load_champion
from tests.support.endpoint import Served, served

Form = list[tuple[str, tuple[str, bytes, str]]]


@pytest.fixture(scope="session")
def package(home: Path) -> Package:
    """The champion of the model `tiny`."""
    return load_champion(home / "models", "tiny")


@pytest.fixture(scope="session")
def endpoint(package: Package, home: Path) -> Iterator[Served]:
    """An endpoint that takes three images and one MiB in a request."""
    with served(package, home / "cache", limits=Limits(max_images=3, max_mb=1)) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Three drawn images, as JPEG."""
    return list(draw_examples(seed=5).values())


@pytest.fixture
def form() -> Callable[..., Form]:
    """Make the parts of a form: form("images", a=b"…", b=b"…")."""

    def make(field: str, **files: bytes) -> Form:
        return [(field, (name, data, "application/octet-stream")) for name, data in files.items()]

    return make
