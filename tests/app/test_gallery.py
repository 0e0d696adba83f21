from streamlit.testing.v1 import AppTest

from tests.app.support import pictures, texts

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def _show(n_images: int, picture: str) -> None:
    """What AppTest runs as a script: it sees nothing of this file."""
    from app import gallery
    from app.gallery import Tile

    tiles = [Tile(picture if k else None, f"title {k}", f"caption {k}", "an image") for k in range(n_images)]
    gallery.show(tiles[gallery.choose_page("images", n_images)])


def shown(n_images: int) -> AppTest:
    view = AppTest.from_function(_show, kwargs={"n_images": n_images, "picture": DOT}).run()
    assert not view.exception
    return view


def test_images_are_shown_a_page_at_a_time() -> None:
    view = shown(50)
    assert len(pictures(view)) == 23
    view.pagination[0].set_value(3).run()
    assert [element.value for element in view.markdown] == ["**title 48**", "**title 49**"]
    assert pictures(view) == [DOT, DOT]
    assert not shown(24).pagination


def test_an_image_that_is_not_available_is_said_to_be_so() -> None:
    assert "1 of these 3 images are not available: moved, deleted or changed since." in texts(shown(3))
