import pytest
from pydicom.sr.codedict import codes

from cxr.dicom_results.codes import class_concept, text


@pytest.mark.parametrize(
    ("name", "code"),
    [("NORMAL", "17621005"), ("PNEUMONIA", "233604007"), ("COVID-19", "840539006"), ("Pleural_Effusion", "60046008")],
)
def test_a_known_class_has_its_code_of_snomed_ct_however_it_is_written(name: str, code: str) -> None:
    concept = class_concept(name)
    assert (concept.value, concept.scheme_designator) == (code, "SCT")


@pytest.mark.parametrize("keyword", ["Normal", "PleuralEffusion", "Pneumothorax", "PulmonaryEdema"])
def test_codes_that_the_standard_lists_are_those_of_the_standard(keyword: str) -> None:
    listed = getattr(codes.SCT, keyword)
    assert class_concept(listed.meaning).value == listed.value


@pytest.mark.parametrize("name", ["bacteria", "effusion", "not pneumonia", "Lungenentzündung", "a" * 200, "a\\b"])
def test_another_name_is_a_concept_of_this_programs_scheme_and_different_names_are_different_concepts(
    name: str,
) -> None:
    concept, other = class_concept(name), class_concept(name + "2")
    assert concept.scheme_designator == "99CXR"
    assert concept.value != other.value
    assert "\\" not in concept.value + concept.meaning
    assert len(concept.meaning) <= 64


def test_a_text_is_on_one_line_parts_no_values_and_is_cut() -> None:
    assert text("a\\b\n") == "a/b/n"
    assert text("x" * 100) == "x" * 63 + "…"
