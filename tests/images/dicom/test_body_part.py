from collections.abc import Callable

import pytest

from cxr.images.dicom.body_part import read_other_body_part
from tests.support.images import make_dicom


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("HAND", "HAND"),
        ("C SPINE", "CSPINE"),
        ("CHEST", None),
        ("RIB", None),
        ("", None),
        (None, None),
    ],
)
def test_a_body_part_other_than_the_chest_is_found(stated: str | None, found: str | None) -> None:
    assert read_other_body_part(make_dicom(BodyPartExamined=stated)) == found


def test_what_is_no_term_of_the_standard_is_not_quoted() -> None:
    assert read_other_body_part(make_dicom(BodyPartExamined="DOE JANE")) is None


def test_a_jpeg_states_no_body_part(image: Callable[..., bytes]) -> None:
    assert read_other_body_part(image()) is None
