"""Pictures, read by pydicom."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset

from cxr.dicom_results.picture import MAX_PX, with_caption
from cxr.images.decoding import decode_image
from tests.support.dicom import find_instances


@pytest.fixture(scope="module")
def pictures(dicom_results: Path) -> list[tuple[Dataset, Path]]:
    """Each with the file of its image."""
    inbox = dicom_results.parent / "inbox" / "ward"
    images = {pydicom.dcmread(path).SOPInstanceUID: path for path in inbox.glob("*.dcm")}
    made = [pydicom.dcmread(path) for path in find_instances(dicom_results, "OT")]
    return [(picture, images[picture.SourceImageSequence[0].ReferencedSOPInstanceUID]) for picture in made]


def test_a_picture_is_the_image_beside_itself_with_the_map(pictures: list[tuple[Dataset, Path]]) -> None:
    assert len(pictures) == 2
    for picture, file in pictures:
        pixels = picture.pixel_array.astype(int)
        assert max(pixels.shape) <= MAX_PX
        grey = decode_image(file.read_bytes(), 32).grey
        height = round(picture.Columns / 2 * grey.height / grey.width)
        left, right = np.split(pixels[:height], 2, axis=1)
        shrunk = np.asarray(grey.resize((left.shape[1], height), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(left - shrunk[..., None]).mean() < 2
        assert (left[..., 0] == left[..., 2]).all()
        assert (right[..., 0] != right[..., 2]).any(), "the map is in colour"
        assert pixels[height:].max() > 200, "a caption stands below"


def test_a_picture_says_how_it_was_made_of_what_and_what_it_is_for(pictures: list[tuple[Dataset, Path]]) -> None:
    for picture, file in pictures:
        image = pydicom.dcmread(file)
        assert (picture.StudyInstanceUID, picture.PatientID) == (image.StudyInstanceUID, image.PatientID)
        assert str(picture.PatientName) == str(image.PatientName)
        assert picture.PatientOrientation == image.PatientOrientation
        assert picture.SeriesInstanceUID != image.SeriesInstanceUID
        assert picture.DerivationDescription.startswith("HiResCAM (layer3, ")
        assert picture.DerivationDescription.endswith("Academic and research use only; not a medical device.")
        assert "for research use" in picture.SeriesDescription
        assert (picture.BurnedInAnnotation, picture.ConversionType, picture.Modality) == ("NO", "WSD", "OT")
        assert picture.LossyImageCompression == "00"


def test_a_caption_is_cut_into_lines_that_fit_and_leaves_the_picture_as_it_is() -> None:
    picture = Image.new("RGB", (300, 100), (10, 20, 30))
    short, long = with_caption(picture, "Grad-CAM"), with_caption(picture, "Grad-CAM for a long name " * 4)
    assert short.crop((0, 0, 300, 100)).tobytes() == long.crop((0, 0, 300, 100)).tobytes() == picture.tobytes()
    assert picture.height < short.height < long.height
    assert np.asarray(long)[100:, -3:].max() == 0, "no line reaches the edge"
