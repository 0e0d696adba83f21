"""Where the networks looked, as a Secondary Capture: the image, and beside it the image with the map.

A picture is seen among a patient's images, and its header is not: so its pixels say what it is. They do not say whose,
hence its Burned In Annotation is NO.

Source: DICOM PS3.3 A.8.1 (Secondary Capture), C.7.6.1.1.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr.dicom_results.codes import text
from cxr.dicom_results.identifiers import ResultUids
from cxr.dicom_results.report import equipment
from cxr.dicom_results.source import Source
from cxr.network.heat_map import map_method
from cxr.serving.package import Package
from cxr.wording import DISCLAIMER

if TYPE_CHECKING:
    from highdicom.sc import SCImage
    from pydicom import Dataset

SERIES_NUMBER = 9002
MAX_PX = 1536
"""Longest side of a picture: it shows where to look, in the image itself."""
CAPTION_SHARE = 0.02
"""Height of the caption's letters, as a share of the picture's width."""
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")


def make_picture(source: Source, package: Package, drawn: Image.Image, looked_for: str, uids: ResultUids) -> "SCImage":
    """Return the picture of an image, without its patient and study.

    Args:
        source: the image.
        package: the model that scored it.
        drawn: the image beside itself with the map.
        looked_for: class or finding that the map is of.
        uids: of the results.
    """
    from highdicom.sc import SCImage

    drawn.thumbnail((MAX_PX, MAX_PX))
    what = f"{map_method(package.size)} for {text(looked_for)} by {text(package.name)} version {package.version}"
    instance = SCImage(
        pixel_array=np.asarray(with_caption(drawn, f"{what}. {DISCLAIMER}")),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced by the source's
        study_instance_uid=source.dataset.StudyInstanceUID,
        series_instance_uid=uids.picture_series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.picture,
        instance_number=1,
        series_description=f"{text(package.name, 20)}: heat map, for research use",
        specific_character_set="ISO_IR 192",
        **equipment(package),  # pyright: ignore[reportArgumentType]
    )
    _describe(instance, source, what)
    return instance


def _describe(instance: "Dataset", source: Source, what: str) -> None:
    """Say how a picture was made, and from which image."""
    instance.PatientOrientation = source.orientation or None
    instance.Laterality = None  # unknown: it is of both sides, and the body part may be missing
    instance.ConversionType = "WSD"  # made on a workstation
    instance.BurnedInAnnotation = "NO"
    instance.LossyImageCompression = "01" if source.is_lossy else "00"
    instance.DerivationDescription = f"{what}; left the image, right with the map. {DISCLAIMER}"
    instance.SourceImageSequence = [_reference(source)]


def _reference(source: Source) -> "Dataset":
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = source.dataset.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept(*SOURCE_IMAGE)]
    return item


def with_caption(picture: Image.Image, caption: str) -> Image.Image:
    """Return a picture on a black strip of text, cut into lines that fit."""
    font = _font(max(12, round(CAPTION_SHARE * picture.width)))
    lines = _lines(caption, font, picture.width - font.size)
    step = round(1.4 * font.size)
    whole = Image.new("RGB", (picture.width, picture.height + step * len(lines) + step // 2))
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((font.size / 2, picture.height + step * number + step // 4), line, fill="white", font=font)
    return whole


def _lines(caption: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of the figures, which has the letters of many languages."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
