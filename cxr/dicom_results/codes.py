"""Coded concepts: what a class or finding is called in SNOMED CT, and this program's own for what has no code.

Only names that mean one thing are translated: `effusion` may be in the pleura or not, and `bacteria` are not yet a
pneumonia. Any other name is a concept of the private coding scheme 99CXR.

Source: SNOMED CT; DICOM PS3.16 annex D (DCM), PS3.16 section 8.2 (private schemes begin with 99).
"""

import urllib.parse
from typing import TYPE_CHECKING

from cxr.wording import visible

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

SCHEME = "99CXR"
MAX_MEANING = 64
SNOMED = {
    "normal": ("17621005", "Normal"),
    "pneumonia": ("233604007", "Pneumonia"),
    "bacterial pneumonia": ("53084003", "Bacterial pneumonia"),
    "viral pneumonia": ("75570004", "Viral pneumonia"),
    "covid 19": ("840539006", "COVID-19"),
    "covid": ("840539006", "COVID-19"),
    "tuberculosis": ("56717001", "Tuberculosis"),
    "atelectasis": ("46621007", "Atelectasis"),
    "cardiomegaly": ("8186001", "Cardiomegaly"),
    "emphysema": ("87433001", "Pulmonary emphysema"),
    "pleural effusion": ("60046008", "Pleural effusion"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "pulmonary edema": ("19242006", "Pulmonary edema"),
}
"""Concepts by name in lower case, words parted by one space."""


def class_concept(name: str) -> "CodedConcept":
    """Return the concept of a class or finding."""
    from highdicom.sr import CodedConcept

    words = "".join(sign if sign.isalnum() else " " for sign in name.casefold()).split()
    if known := SNOMED.get(" ".join(words)):
        return CodedConcept(known[0], "SCT", known[1])
    return own_concept(urllib.parse.quote(name, safe=" "), name)


def own_concept(value: str, meaning: str) -> "CodedConcept":
    """Return a concept of this program's scheme."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, text(meaning))


def text(value: str, longest: int = MAX_MEANING) -> str:
    """Return a name as an attribute may hold it: on one line, without the backslash that parts values, cut if long."""
    shown = visible(value).replace("\\", "/").strip()
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
