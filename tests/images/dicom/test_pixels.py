"""The arithmetic of PS3.3, written out: what a stored value becomes, step by step."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from cxr.errors import UnreadableError
from cxr.images.dicom import decoders
from cxr.images.dicom.file import read_dataset
from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels, robust_range
from tests.support.images import RAMP, colour, make_dicom, spread
from tests.support.processes import PROJECT

HALF = (RAMP // 16).astype(np.uint8)
"""A ramp over all 8-bit values."""


def levels(pixels: np.ndarray = RAMP, **tags: Any) -> np.ndarray:
    """What is read of an image with these stored values and tags."""
    return read_levels(read_dataset(make_dicom(pixels, **tags), PIXEL_TAGS)).astype(int)


def lut(descriptor: list[int], data: Any, first_is: str = "US", data_is: str = "US") -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, first_is, descriptor)
    item.add_new(0x00283006, data_is, data)
    return Sequence([item])


def refusal(pixels: np.ndarray = RAMP, **tags: Any) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        levels(pixels, **tags)
    return caught.value


# What was right before


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits_and_sign", [(8, 0), (10, 0), (12, 0), (12, 1), (14, 0), (16, 0), (16, 1)])
def test_ordinary_images_are_what_pydicoms_arithmetic_gives_to_the_bit(
    photometric: str, bits_and_sign: tuple[int, int]
) -> None:
    rescales = (None, (1, 0), (2, -1000), (0.5, -10.5))
    functions = (None, "LINEAR", "LINEAR_EXACT", "SIGMOID")
    for rescale, function, is_padded in itertools.product(rescales, functions, (False, True)):
        pixels, tags = ordinary(*bits_and_sign, rescale, function, is_padded)
        dataset = read_dataset(make_dicom(pixels, PhotometricInterpretation=photometric, **tags), PIXEL_TAGS)
        assert (read_levels(dataset) == by_pydicom(pixels, dataset)).all()


def ordinary(
    bits: int, sign: int, rescale: tuple[float, float] | None, function: str | None, is_padded: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """A round body with noise, and its tags."""
    most, least = 2**bits, -(2 ** (bits - 1)) if sign else 0
    y, x = np.mgrid[:96, :80]
    noise = np.random.default_rng(0).normal(0, most / 50, (96, 80))
    pixels = (np.hypot(y - 40, x - 30) / 120 * most * 0.8 + noise).clip(0, most - 1) + least
    pixels = pixels.astype(np.uint8 if bits == 8 else np.int16 if sign else np.uint16)
    tags: dict[str, Any] = {"PixelRepresentation": sign, "BitsStored": bits, "HighBit": bits - 1}
    slope, intercept = rescale or (1, 0)
    if rescale:
        tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if function:
        center, width = (least + most * 0.45) * slope + intercept, most * 0.375 * slope
        tags |= {"WindowCenter": round(center, 3), "WindowWidth": round(width, 3), "VOILUTFunction": function}
    if is_padded:
        pixels[:, :9] = least
        tags["PixelPaddingValue"] = least
    return pixels, tags


def by_pydicom(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Grey levels as they were computed before, by pydicom's functions on whole arrays of floats."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float32)
    padding = stored == dataset.get("PixelPaddingValue", 1 << 20)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values[padding] = values[~padding].max()
        values = values.min() + values.max() - values
    else:
        values[padding] = values[~padding].min()
    exact = values.astype(np.float64)
    return ((exact - exact.min()) * (255.0 / (exact.max() - exact.min()))).round().astype(np.uint8)


# Bits (PS3.5 8.1)


def test_the_bits_are_those_below_the_high_bit() -> None:
    assert (levels((RAMP << 4).astype(np.uint16), BitsStored=12, HighBit=15) == spread(RAMP)).all()


def test_bits_beside_the_stored_ones_are_not_looked_at() -> None:
    for high, cells in ((11, RAMP | 0xA000), (13, (RAMP << 2) | 0x8003), (15, (RAMP << 4) | 7)):
        assert (levels(cells.astype(np.uint16), BitsStored=12, HighBit=high) == spread(RAMP)).all()


def test_the_highest_stored_bit_is_the_sign() -> None:
    signed = RAMP.astype(int) - 2048
    cells = (signed & 0xFFF).astype(np.uint16)
    assert (levels(cells, BitsStored=12, PixelRepresentation=1) == spread(signed)).all()
    shifted = levels((cells << 4).astype(np.uint16), BitsStored=12, HighBit=15, PixelRepresentation=1)
    assert (shifted == spread(signed)).all()


def test_big_endian_words_have_the_same_values() -> None:
    big = levels(RAMP.astype(">u2"), syntax=ExplicitVRBigEndian)
    assert (big == spread(RAMP)).all()


@pytest.mark.parametrize(
    ("tags", "tag"),
    [
        ({"BitsStored": 17}, "HighBit"),
        ({"BitsStored": 0}, "HighBit"),
        ({"HighBit": 10}, "HighBit"),
        ({"HighBit": 16}, "HighBit"),
        ({"PixelRepresentation": 2}, "PixelRepresentation"),
        ({"BitsAllocated": 12}, "BitsAllocated"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel"),
        ({"PhotometricInterpretation": "CMYK"}, "PhotometricInterpretation"),
    ],
)
def test_a_description_of_pixels_that_cannot_be_true_names_its_tag(tags: dict, tag: str) -> None:
    assert tag in refusal(**tags).detail


# Padding (PS3.3 C.7.5.1.1.2)


def test_a_whole_range_is_background() -> None:
    pixels = (RAMP // 2).astype(np.uint16)
    pixels[:, :10], pixels[:, 10:12], pixels[:, 12:14] = 4000, 4050, 4095
    square = levels(pixels, PixelPaddingValue=4095, PixelPaddingRangeLimit=4000)
    assert (square[:, :14] == 0).all()
    assert (square[:, 14:] == spread(pixels[:, 14:])).all()


def test_padding_is_black_where_the_least_value_is_white() -> None:
    pixels = (RAMP // 2 + 500).astype(np.uint16)
    pixels[:, :10] = 0
    square = levels(pixels, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1")
    assert (square[:, :10] == 0).all()
    assert (square[:, 10:] == 255 - spread(pixels[:, 10:])).all()


def test_padding_has_the_sign_of_the_pixels() -> None:
    pixels = (RAMP.astype(np.int16) // 4).astype(np.int16)
    pixels[:, :10] = -2000
    data = make_dicom(pixels, PixelRepresentation=1, BitsStored=16, HighBit=15, PixelPaddingValue=-2000)
    signed, unsigned = b"\x28\x00\x20\x01SS\x02\x00", b"\x28\x00\x20\x01US\x02\x00"
    assert data.count(signed) == 1
    for written in (data, data.replace(signed, unsigned)):
        square = read_levels(read_dataset(written, PIXEL_TAGS)).astype(int)
        assert (square[:, :10] == 0).all()
        assert (square[:, 10:] == spread(pixels[:, 10:])).all()


def test_an_image_of_padding_alone_is_black() -> None:
    assert not levels(np.full((64, 64), 7, np.uint16), PixelPaddingValue=7).any()


def test_empty_padding_is_none() -> None:
    assert (levels(PixelPaddingValue="") == spread(RAMP)).all()


# Modality (PS3.3 C.11.1)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope_is_a_positive_one_of_the_inverse(function: str, photometric: str) -> None:
    window = {"WindowCenter": 1725, "WindowWidth": 2551, "VOILUTFunction": function}
    window |= {"PhotometricInterpretation": photometric}
    falling = levels(HALF, RescaleSlope=-10, RescaleIntercept=3000, **window)
    rising = levels((255 - HALF).astype(np.uint8), RescaleSlope=10, RescaleIntercept=450, **window)
    assert (falling == rising).all()
    value = 3000 - 10 * HALF.astype(float)
    shown = {
        "LINEAR": ((value - 1724.5) / 2550 + 0.5).clip(0, 1),
        "LINEAR_EXACT": ((value - 1725) / 2551 + 0.5).clip(0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (value - 1725) / 2551)),
    }[function]
    assert np.abs(falling - spread(shown if photometric == "MONOCHROME2" else -shown)).max() <= 1
    assert np.corrcoef(falling.ravel(), HALF.ravel())[0, 1] * (1 if photometric == "MONOCHROME1" else -1) > 0.9


def test_an_empty_slope_or_intercept_changes_nothing() -> None:
    plain = levels(WindowCenter=2048, WindowWidth=1024)
    assert (levels(WindowCenter=2048, WindowWidth=1024, RescaleSlope="", RescaleIntercept="") == plain).all()
    assert (levels(WindowCenter=1048, WindowWidth=1024, RescaleSlope="", RescaleIntercept=-1000) == plain).all()


def test_a_modality_table_comes_before_the_window() -> None:
    table = (np.arange(4096) ** 2 // 4096).astype(int)
    square = levels(ModalityLUTSequence=lut([4096, 0, 12], table.tolist()), WindowCenter=1024, WindowWidth=2048)
    expected = spread(((table[RAMP] - 1023.5) / 2047 + 0.5).clip(0, 1))
    assert np.abs(square - expected).max() <= 1
    assert square[0, 0] == 0


# Values of interest (PS3.3 C.11.2)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", ((RAMP - (2048 - 0.5)) / (1024 - 1) + 0.5).clip(0, 1)),
        ("LINEAR_EXACT", ((RAMP - 2048.0) / 1024 + 0.5).clip(0, 1)),
        ("SIGMOID", 1 / (1 + np.exp(-4 * (RAMP - 2048.0) / 1024))),
        ("", ((RAMP - (2048 - 0.5)) / (1024 - 1) + 0.5).clip(0, 1)),
        (" linear ", ((RAMP - (2048 - 0.5)) / (1024 - 1) + 0.5).clip(0, 1)),
    ],
)
def test_a_window_follows_its_function(function: str, expected: np.ndarray) -> None:
    square = levels(WindowCenter=2048, WindowWidth=1024, VOILUTFunction=function)
    assert np.abs(square - spread(expected)).max() <= 1


def test_a_window_of_width_1_is_a_threshold() -> None:
    assert (levels(WindowCenter=2048, WindowWidth=1) == 255 * (RAMP > 2047.5)).all()


def test_the_first_of_several_windows_is_shown() -> None:
    several = levels(WindowCenter=[2048, 100], WindowWidth=[1024, 50])
    assert (several == levels(WindowCenter=2048, WindowWidth=1024)).all()


@pytest.mark.parametrize("tags", [{"WindowWidth": ""}, {"WindowCenter": ""}, {"WindowCenter": "", "WindowWidth": ""}])
def test_an_empty_window_is_none(tags: dict) -> None:
    assert (levels(**({"WindowCenter": 100, "WindowWidth": 10} | tags)) == spread(RAMP)).all()


@pytest.mark.parametrize(
    ("tags", "detail"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "RescaleSlope (0028,1053) is 0, which makes all pixels equal"),
        ({"WindowWidth": 0}, "WindowWidth (0028,1051) is not 1 or more, as LINEAR windows are"),
        ({"WindowWidth": -5}, "WindowWidth (0028,1051) is not 1 or more, as LINEAR windows are"),
        ({"WindowWidth": 0.5}, "WindowWidth (0028,1051) is not 1 or more, as LINEAR windows are"),
        ({"WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, "WindowWidth (0028,1051) is not over 0, as SIGMOID"),
        ({"VOILUTFunction": "SECRET^NAME"}, "VOILUTFunction (0028,1056) is none of LINEAR, LINEAR_EXACT, SIGMOID"),
        ({"PresentationLUTShape": "SECRET^NAME"}, "PresentationLUTShape (2050,0020) is not IDENTITY or INVERSE"),
        ({"PresentationLUTSequence": lut([2, 0, 8], [0, 255])}, "PresentationLUTSequence (2050,0010)"),
    ],
)
def test_a_value_that_the_standard_does_not_allow_is_a_reason_that_names_the_tag(tags: dict, detail: str) -> None:
    refused = refusal(**({"WindowCenter": 2048, "WindowWidth": 1024} | tags))
    assert detail in refused.detail
    assert "SECRET" not in str(refused)


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "Rows"])
def test_a_number_that_is_none_is_a_reason_that_names_the_tag_and_quotes_nothing(keyword: str) -> None:
    usual = {"WindowCenter": "2048", "WindowWidth": "1024", "RescaleSlope": "1   ", "RescaleIntercept": "0   "}
    data = make_dicom(**usual)
    tags = {"WindowCenter": b"\x28\x00\x50\x10DS\x04\x00", "WindowWidth": b"\x28\x00\x51\x10DS\x04\x00"}
    tags |= {"RescaleSlope": b"\x28\x00\x53\x10DS\x02\x00", "RescaleIntercept": b"\x28\x00\x52\x10DS\x02\x00"}
    tags |= {"Rows": b"\x28\x00\x10\x00US\x02\x00"}
    at = data.index(tags[keyword]) + 8
    for value in (b"nan ", b"inf ", b"Ann ", b"1,0 "):
        length = tags[keyword][6]
        changed = data[:at] + value[:length] + data[at + length :]
        if keyword == "Rows":
            changed = data.replace(tags[keyword], b"\x28\x00\x10\x00DS\x02\x00")
            changed = changed[:at] + b"An" + changed[at + 2 :]
        with pytest.raises(UnreadableError, match=keyword) as caught:
            read_levels(read_dataset(changed, PIXEL_TAGS))
        assert "An" not in caught.value.detail


TABLE = (255 * (np.arange(4096) / 4095) ** 2).round().astype(int)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_table_of_4096_entries_of_8_bits_is_looked_up(syntax: str, is_packed: bool) -> None:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    words = TABLE[0::2] + 256 * TABLE[1::2] if is_packed else TABLE
    table = lut([4096, 0, 8], words.astype(f"{order}u2").tobytes(), data_is="OW")
    pixels = RAMP.astype(">u2") if order == ">" else RAMP
    assert (levels(pixels, syntax=syntax, VOILUTSequence=table) == spread(TABLE[RAMP])).all()


def test_tables_of_9_bits_and_of_words_that_hold_pairs_are_looked_up() -> None:
    nine = (511 * (np.arange(4096) / 4095) ** 2).round().astype(int)
    assert (levels(VOILUTSequence=lut([4096, 0, 9], nine.tolist())) == spread(nine[RAMP])).all()
    pairs = (TABLE[0::2] + 256 * TABLE[1::2]).tolist()
    assert (levels(VOILUTSequence=lut([4096, 0, 8], pairs)) == spread(TABLE[RAMP])).all()


def test_values_before_and_beyond_a_table_get_its_ends() -> None:
    table = np.arange(1000) * 3
    expected = spread(table[(RAMP.astype(int) - 1500).clip(0, 999)])
    assert (levels(VOILUTSequence=lut([1000, 1500, 12], table.tolist())) == expected).all()


@pytest.mark.parametrize("first_is", ["US", "SS"])
def test_the_first_value_mapped_may_be_negative(first_is: str) -> None:
    signed = (RAMP.astype(int) - 2048).astype(np.int16)
    first = -1000 if first_is == "SS" else 65536 - 1000
    table = np.arange(2000)
    n_first = lut([2000, first, 12], table.tolist(), first_is)
    square = levels(signed, BitsStored=12, PixelRepresentation=1, VOILUTSequence=n_first)
    assert (square == spread((signed.astype(int) + 1000).clip(0, 1999))).all()
    shifted = levels(RescaleSlope=1, RescaleIntercept=-2048, VOILUTSequence=n_first)
    assert (shifted == square).all()


def test_a_table_of_65536_entries_is_written_as_0() -> None:
    pixels = (RAMP.astype(int) * 16).astype(np.uint16)
    table = (np.arange(65536) // 2).astype("<u2").tobytes()
    square = levels(pixels, BitsStored=16, HighBit=15, VOILUTSequence=lut([0, 0, 15], table, data_is="OW"))
    assert (square == spread(pixels // 2)).all()


def test_a_table_goes_before_a_window_and_an_empty_one_counts_as_absent() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 1024}
    both = levels(VOILUTSequence=lut([4096, 0, 8], TABLE.tolist()), **window)
    assert (both == spread(TABLE[RAMP])).all()
    assert (levels(VOILUTSequence=Sequence([]), **window) == levels(**window)).all()
    assert (levels(VOILUTSequence=Sequence([Dataset()]), **window) == levels(**window)).all()


@pytest.mark.parametrize(
    ("table", "detail"),
    [
        (lut([4096, 0, 12], [1, 2, 3]), "LUTData (0028,3006) in VOILUTSequence is shorter than its descriptor says"),
        (lut([3, 0, 17], [1, 2, 3]), "LUTDescriptor (0028,3002) in VOILUTSequence has entries of no 1 to 16 bits"),
        (lut([3, 0], [1, 2, 3]), "LUTDescriptor (0028,3002) in VOILUTSequence is not three numbers"),
    ],
)
def test_a_table_that_is_not_as_it_says_is_a_reason(table: Sequence, detail: str) -> None:
    assert refusal(VOILUTSequence=table).detail == detail


# Presentation (PS3.3 C.7.6.3.1.2, C.8.11.3.1)


@pytest.mark.parametrize(
    ("photometric", "shape", "is_inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "INVERSE", True),
        ("monochrome1 ", "inverse", True),
    ],
)
def test_an_image_is_inverted_once(photometric: str, shape: str | None, is_inverted: bool) -> None:
    square = levels(PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    assert (square == spread(-RAMP.astype(int) if is_inverted else RAMP)).all()


def test_an_image_that_is_inverted_by_one_tag_and_not_by_the_other_is_not_guessed_at() -> None:
    refused = refusal(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY")
    assert refused.detail == "PresentationLUTShape (2050,0020) is IDENTITY, which contradicts MONOCHROME1"


# The range where nothing says what is of interest


def test_a_marker_of_65535_does_not_blacken_an_image_of_12_bits() -> None:
    pixels = RAMP.copy()
    pixels[2:8, 2:12] = 65535  # 0.8% of the pixels
    square = levels(pixels, BitsStored=16, HighBit=15)
    is_marker = pixels == 65535
    assert (square[is_marker] == 255).all()
    assert (square[~is_marker] == spread(RAMP)[~is_marker]).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_marker_is_clipped_at_either_end(photometric: str) -> None:
    pixels = (RAMP.astype(int) // 8 + 40_000).astype(np.uint16)
    pixels[:4, :10] = 0
    square = levels(pixels, BitsStored=16, HighBit=15, PhotometricInterpretation=photometric)
    expected = spread(pixels.clip(40_000, None))
    assert (square == (expected if photometric == "MONOCHROME2" else 255 - expected)).all()


@pytest.mark.parametrize(
    ("values", "counts", "expected"),
    [
        (range(100), [1] * 100, (0, 99)),  # no tail is lone
        ([*range(100), 250], [10] * 100 + [5], (0, 99)),  # gap 151, the rest spans 89
        ([*range(100), 180], [10] * 100 + [5], (0, 180)),  # gap 81: the marker takes less than half
        ([*range(100), 60_000], [10] * 100 + [11], (0, 60_000)),  # 1.1% is more than a marker
        ([*range(100), 30_000, 60_000], [10] * 100 + [4, 5], (0, 99)),  # marker with a soft edge
        ([-5000, *range(100), 5000], [5] + [10] * 100 + [5], (0, 99)),  # both ends
    ],
)
def test_lone_extremes_are_those_beyond_a_gap(values: list[int], counts: list[int], expected: tuple[int, int]) -> None:
    found = robust_range(np.array(values, np.float32), np.array(counts, np.int64))
    assert found == expected


def test_a_window_already_says_what_is_of_interest() -> None:
    pixels = np.full((64, 64), 100, np.uint16)
    pixels[0, :20] = 4000
    assert set(np.unique(levels(pixels, WindowCenter=2048, WindowWidth=4096))) == {0, 255}


# Colour (PS3.3 C.7.6.3.1.2)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("planes", [0, 1])
def test_colour_is_scaled_by_its_bits(bits: int, planes: int) -> None:
    rgb = colour(bits)
    stored = rgb.transpose(2, 0, 1).tobytes() if planes else rgb.tobytes()
    found = levels(rgb, BitsStored=bits, HighBit=bits - 1, PlanarConfiguration=planes, PixelData=stored)
    assert (found == (rgb * 255.0 / (2**bits - 1)).round()).all()


def ybr(rgb: np.ndarray, is_partial: bool = False) -> np.ndarray:
    """YCbCr as PS3.3 C.7.6.3.1.2 writes it: YBR_FULL, or YBR_PARTIAL_422."""
    red, green, blue = (rgb[..., k].astype(float) for k in range(3))
    if is_partial:
        y = 0.2568 * red + 0.5041 * green + 0.0979 * blue + 16
        cb = -0.1482 * red - 0.2910 * green + 0.4392 * blue + 128
        cr = 0.4392 * red - 0.3678 * green - 0.0714 * blue + 128
    else:
        y = 0.2990 * red + 0.5870 * green + 0.1140 * blue
        cb = -0.1687 * red - 0.3313 * green + 0.5000 * blue + 128
        cr = 0.5000 * red - 0.4187 * green - 0.0813 * blue + 128
    return np.stack([y, cb, cr], axis=-1).round().clip(0, 255).astype(np.uint8)


def test_ybr_is_converted_once() -> None:
    rgb = colour(8)
    found = levels(ybr(rgb), PhotometricInterpretation="YBR_FULL")
    assert np.abs(found - rgb).max() <= 2


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_PARTIAL_422"])
def test_pairs_share_their_colour(photometric: str) -> None:
    rgb = np.repeat(colour(8)[:, ::2], 2, axis=1)
    y, cb, cr = np.moveaxis(ybr(rgb, photometric == "YBR_PARTIAL_422"), -1, 0)
    pairs = np.stack([y[:, 0::2], y[:, 1::2], cb[:, 0::2], cr[:, 0::2]], axis=-1)
    found = levels(rgb, PhotometricInterpretation=photometric, PixelData=pairs.tobytes())
    assert np.abs(found - rgb).max() <= 2


def test_colour_of_12_bits_in_ybr_is_scaled_and_converted() -> None:
    rgb = colour(8)
    found = levels(ybr(rgb).astype(np.uint16) * 16, PhotometricInterpretation="YBR_FULL", BitsStored=12, HighBit=11)
    assert np.abs(found - rgb).max() <= 4


# What is asked of the machine


def test_a_shortage_of_memory_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_arguments: Any, **_options: Any) -> None:
        raise MemoryError

    data = make_dicom()
    monkeypatch.setattr("pydicom.pixels.decoders.base.DecodeRunner.reshape", short)
    with pytest.raises(MemoryError):
        read_levels(read_dataset(data, PIXEL_TAGS))
    monkeypatch.undo()
    monkeypatch.setattr(decoders, "_unpack", short)
    frame = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + bytes([127, *range(128)]) * 32
    with pytest.raises(MemoryError):
        read_levels(read_dataset(encapsulated(frame, "1.2.840.10008.1.2.5"), PIXEL_TAGS))


def encapsulated(frame: bytes, syntax: str, **tags: Any) -> bytes:
    from pydicom.encaps import encapsulate

    pixels = np.zeros((64, 64), np.uint8)
    return make_dicom(pixels, syntax=syntax, **({"PixelData": encapsulate([frame])} | tags))


def test_a_large_image_costs_little_more_than_its_values(tmp_path: Path) -> None:
    code = (
        "import numpy as np, resource\n"
        "from tests.support.images import make_dicom\n"
        "from cxr.images.dicom.file import read_dataset; from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels\n"
        "pixels = np.zeros((5000, 5000), np.uint16)\n"
        "data = read_dataset(make_dicom(pixels, WindowCenter=9, WindowWidth=9), PIXEL_TAGS)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; read_levels(data)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 25e6)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 8  # bytes a pixel; the pixels themselves are 2, and the levels 1
