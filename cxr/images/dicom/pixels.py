"""From a DICOM dataset to grey levels, by the standard's own order.

Stored value → pixel padding → modality look-up (table or rescale) → values of interest (table or window) →
presentation (MONOCHROME1, Presentation LUT Shape) → 0 to 255, dark to bright. A tag that is empty counts as
absent; one whose value the standard does not allow is a reason that names the tag, never a guess.

Every step maps a stored value to a level and looks at no neighbour, so the steps are computed once per value
that may occur (65,536 for 16 bits) and the image is looked up. This costs one byte a pixel instead of eight.

Levels are spread from the darkest to the brightest that occurs, padding left out. Where neither a window nor a
table says what is of interest, lone extremes are clipped first: at most 1% of the pixels, beyond a gap that is
wider than all the rest (see `robust_range`).

Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.7.5.1.1.2 (padding), C.11.1 (modality),
C.11.2 (values of interest), C.11.6 (presentation); ITU-T T.871 and BT.601 (YCbCr).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import UnreadableError
from cxr.images.dicom import decoders
from cxr.images.dicom.file import name_of, number, whole

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_TAGS = (
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PresentationLUTSequence",
    "PresentationLUTShape",
    "PixelData",
)
"""What has to be read of a file, and nothing else: none of these tags says whose image it is."""
MAX_LEVELS = 1 << 20
CHUNK_PIXELS = 1 << 20
LONE_SHARE = 0.01
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

Levels = NDArray[np.float64]
Step = Callable[[Levels], Levels]


def read_levels(dataset: "Dataset") -> NDArray[np.uint8]:
    """Return the image: shape (rows, columns), dark 0 to bright 255, or (rows, columns, 3), RGB, for a colour one.

    Args:
        dataset: with `file_meta.TransferSyntaxUID` and the tags of `PIXEL_TAGS`.

    Raises:
        UnreadableError: the pixels cannot be decoded, or a tag that says how they are meant is not as the standard
            allows; the message names the tag and quotes no value.
        MemoryError: this machine is short of memory, which says nothing about the image.
    """
    values, photometric = decoders.decode(dataset)
    return _to_rgb(values, photometric, dataset) if values.ndim == 3 else _to_grey(values, photometric, dataset)


def _to_grey(stored: NDArray[Any], photometric: str, dataset: "Dataset") -> NDArray[np.uint8]:
    low, high = int(stored.min()), int(stored.max())
    if high - low >= MAX_LEVELS:
        raise UnreadableError("unsupported_format", f"DICOM whose values span more than {MAX_LEVELS:,} levels")
    domain = np.arange(low, high + 1)
    counts = _histogram(stored, low, len(domain))
    is_padding = _padding(domain, dataset)
    is_shown = (counts > 0) & ~is_padding
    if not is_shown.any():
        return np.zeros(stored.shape, np.uint8)
    level, is_chosen = _interest(dataset, _modality(dataset))
    levels = level(domain.astype(np.float64)).astype(np.float32)
    if not is_chosen:
        levels = levels.clip(*robust_range(levels[is_shown], counts[is_shown]))
    if _is_inverted(photometric, dataset):
        levels = levels[is_shown].min() + levels[is_shown].max() - levels
    return _look_up(spread(levels, is_shown), stored, low)


def spread(levels: NDArray[np.float32], is_shown: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return levels, shape (n,), spread over 0 to 255; those that are not shown are 0, the background."""
    exact = levels.astype(np.float64)
    low, high = exact[is_shown].min(), exact[is_shown].max()
    scaled = (exact.clip(low, high) - low) * (255.0 / ((high - low) or 1.0))
    return np.where(is_shown, scaled.round(), 0).astype(np.uint8)


def robust_range(levels: NDArray[np.float32], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the darkest and brightest level, lone extremes left out.

    Lone are at most 1% of the pixels, at one end, beyond a gap without any pixel that is wider than the range of
    the other 99% and what lies between. A marker of 65,535 on a 12-bit image is lone, and the image keeps all 256
    levels instead of 16. No tail of an ordinary histogram is: without such a gap the range is the extremes', to
    the bit. A marker that is not cut off takes half the range at most.

    Args:
        levels: shape (n,), those that occur.
        counts: shape (n,), pixels at each.
    """
    order = np.argsort(levels, kind="stable")
    ascending, share = levels[order].astype(np.float64), np.cumsum(counts[order]) / counts.sum()
    dark = ascending[np.searchsorted(share, LONE_SHARE)]
    bright = ascending[np.searchsorted(share, 1.0 - LONE_SHARE)]
    gap = np.diff(ascending)
    is_end = (share[:-1] >= 1.0 - LONE_SHARE) & (gap > ascending[:-1] - dark)
    is_start = (share[:-1] <= LONE_SHARE) & (gap > bright - ascending[1:])
    first = int(np.flatnonzero(is_start)[-1]) + 1 if is_start.any() else 0
    last = int(np.flatnonzero(is_end)[0]) if is_end.any() else len(ascending) - 1
    return float(ascending[first]), float(ascending[last])


def _histogram(stored: NDArray[Any], low: int, n: int) -> NDArray[np.int64]:
    counts = np.zeros(n, np.int64)
    for rows in _chunks(stored):
        counts += np.bincount(stored[rows].ravel().astype(np.int64) - low, minlength=n)
    return counts


def _look_up(table: NDArray[np.uint8], stored: NDArray[Any], low: int) -> NDArray[np.uint8]:
    found = np.empty(stored.shape, np.uint8)
    for rows in _chunks(stored):
        found[rows] = table[stored[rows].astype(np.int64) - low]
    return found


def _chunks(values: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows that hold about a million values: what is computed of them stays small."""
    step = max(1, CHUNK_PIXELS // max(1, values[0].size))
    yield from (slice(start, start + step) for start in range(0, len(values), step))


def _padding(domain: NDArray[np.int64], dataset: "Dataset") -> NDArray[np.bool_]:
    """Return which stored values are padding: one, or a range whose ends count (PS3.3 C.7.5.1.1.2)."""
    if number(dataset, "PixelPaddingValue") is None:
        return np.zeros(len(domain), bool)
    one = _signed(whole(dataset, "PixelPaddingValue"), dataset)
    other = _signed(whole(dataset, "PixelPaddingRangeLimit", whole(dataset, "PixelPaddingValue")), dataset)
    return (domain >= min(one, other)) & (domain <= max(one, other))


def _signed(value: int, dataset: "Dataset") -> int:
    """Return a 16-bit value with the sign of the pixels, whichever of US and SS it was written as."""
    is_signed = whole(dataset, "PixelRepresentation") == 1
    return value - 65536 if is_signed and value > 32767 else value + 65536 if not is_signed and value < 0 else value


def _modality(dataset: "Dataset") -> tuple[Step, float, float]:
    """Return the step from stored values to the modality's, and the least and largest value it may give."""
    bits, is_signed = whole(dataset, "BitsStored"), whole(dataset, "PixelRepresentation") == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    if item := _item(dataset, "ModalityLUTSequence"):
        table = _table(item, "ModalityLUTSequence", is_signed, dataset)
        return table, 0, 2 ** _descriptor(item, "ModalityLUTSequence")[2] - 1
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope is None and intercept is None:
        return (lambda values: values), low, high
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise UnreadableError("damaged", f"{name_of('RescaleSlope')} is 0, which makes all pixels equal")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return (lambda values: values * slope + intercept), ends[0], ends[1]


def _interest(dataset: "Dataset", modality: tuple[Step, float, float]) -> tuple[Step, bool]:
    """Return the step from stored values to those of interest, and whether the file says which those are.

    A table goes before a window, as in pydicom: the standard has them as alternatives, and where a device writes
    both, the window is the straight line nearest to the table's curve. Of several, the first is the default view.
    """
    step, low, high = modality
    if item := _item(dataset, "VOILUTSequence"):
        table = _table(item, "VOILUTSequence", low < 0, dataset)
        return (lambda values: table(step(values))), True
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None or width is None:
        return step, False
    function = str(dataset.get("VOILUTFunction") or "").strip().upper() or "LINEAR"
    if function not in FUNCTIONS:
        raise UnreadableError("damaged", f"{name_of('VOILUTFunction')} is none of {', '.join(FUNCTIONS)}")
    if width < (1 if function == "LINEAR" else 0) or width == 0:
        least = "1 or more" if function == "LINEAR" else "over 0"
        raise UnreadableError("damaged", f"{name_of('WindowWidth')} is not {least}, as {function} windows are")
    return (lambda values: window(step(values), center, width, function, low, high)), True


def window(values: Levels, center: float, width: float, function: str, low: float, high: float) -> Levels:
    """Return values through a window, as levels from `low` to `high` (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return (high - low) / (1 + np.exp(-4 * (values - center) / width)) + low
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    below, above = values <= center - width / 2, values > center + width / 2
    levels = np.where(below, low, high).astype(np.float64)
    between = ~(below | above)
    levels[between] = ((values[between] - center) / (width or 1.0) + 0.5) * (high - low) + low
    return levels


def _item(dataset: "Dataset", keyword: str) -> "Dataset | None":
    """Return a sequence's first item; None where it is absent, empty, or its item holds no table."""
    items = dataset.get(keyword)
    item = items[0] if items else None
    has_table = item is not None and item.get("LUTDescriptor") is not None and item.get("LUTData") is not None
    return item if has_table else None


def _descriptor(item: "Dataset", keyword: str) -> tuple[int, int, int]:
    """Return a table's number of entries, the first value that it maps, and the bits of an entry."""
    try:
        n, first, bits = (int(value) for value in item.LUTDescriptor)
    except (TypeError, ValueError):
        raise UnreadableError("damaged", f"LUTDescriptor (0028,3002) in {keyword} is not three numbers") from None
    if not 1 <= bits <= 16:
        raise UnreadableError("damaged", f"LUTDescriptor (0028,3002) in {keyword} has entries of no 1 to 16 bits")
    return (n & 0xFFFF) or 65536, first, bits


def _table(item: "Dataset", keyword: str, is_signed: bool, dataset: "Dataset") -> Step:
    """Return the step through a table; values before its first entry get that entry, values beyond, its last.

    Args:
        item: of a sequence, with LUTDescriptor and LUTData.
        keyword: the sequence, for messages.
        is_signed: whether the values that are looked up may be negative, and with them the first value mapped,
            which files write as US and as SS.
        dataset: the image, whose transfer syntax orders the bytes.
    """
    n, first, bits = _descriptor(item, keyword)
    entries = _entries(item.LUTData, n, bits, dataset)
    if len(entries) < n:
        raise UnreadableError("damaged", f"LUTData (0028,3006) in {keyword} is shorter than its descriptor says")
    first = first - 65536 if is_signed and first > 32767 else first + 65536 if not is_signed and first < 0 else first
    exact = entries[:n].astype(np.float64)
    return lambda values: exact[np.trunc(values - first).clip(0, n - 1).astype(np.int64)]


def _entries(data: Any, n: int, bits: int, dataset: "Dataset") -> NDArray[np.uint16]:
    """Return a table's entries: words, or bytes packed in pairs where 8-bit entries fill half the words."""
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if isinstance(data, bytes):
        raw = data
    else:
        words = [data] if isinstance(data, int) else list(data)
        raw = np.asarray(words, dtype=np.int64).astype(np.uint16).astype(f"{order}u2").tobytes()
    if bits <= 8 and n <= len(raw) < 2 * n:
        packed = np.frombuffer(raw, np.uint8)
        if order == ">":  # the first entry is in a word's less significant byte
            packed = packed[: len(packed) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        return packed.astype(np.uint16)
    return np.frombuffer(raw[: len(raw) // 2 * 2], f"{order}u2").astype(np.uint16)


def _is_inverted(photometric: str, dataset: "Dataset") -> bool:
    """Return whether the least value is the brightest: said by MONOCHROME1, by the shape INVERSE, or by both.

    Where both say so it is one inversion, not two: the standard asks for INVERSE with MONOCHROME1 (PS3.3
    C.8.11.3.1). IDENTITY with MONOCHROME1 contradicts itself: DCMTK shows the one, pydicom's users the other.
    """
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    if shape not in ("", "IDENTITY", "INVERSE"):
        raise UnreadableError("unsupported_format", f"{name_of('PresentationLUTShape')} is not IDENTITY or INVERSE")
    if dataset.get("PresentationLUTSequence"):
        raise UnreadableError("unsupported_format", f"DICOM with {name_of('PresentationLUTSequence')}")
    if photometric == "MONOCHROME1" and shape == "IDENTITY":
        raise UnreadableError(
            "damaged", f"{name_of('PresentationLUTShape')} is IDENTITY, which contradicts MONOCHROME1"
        )
    return photometric == "MONOCHROME1" or shape == "INVERSE"


def _to_rgb(values: NDArray[Any], photometric: str, dataset: "Dataset") -> NDArray[np.uint8]:
    """Return samples as 8-bit RGB: scaled by their bits, and converted once where they are YCbCr."""
    most = 2 ** min(whole(dataset, "BitsStored"), 8 * values.itemsize) - 1
    if photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"):
        raise UnreadableError("damaged", f"{name_of('PhotometricInterpretation')} does not fit the transfer syntax")
    rgb = np.empty(values.shape, np.uint8)
    for rows in _chunks(values):
        samples = values[rows] if most == 255 else (values[rows] * (255.0 / most)).round().clip(0, 255)
        rgb[rows] = samples if photometric == "RGB" else _ybr_to_rgb(samples, photometric)
    return rgb


def _ybr_to_rgb(samples: NDArray[Any], photometric: str) -> NDArray[np.uint8]:
    """Return YCbCr of 8 bits, shape (rows, columns, 3), as RGB: ITU-T T.871, or BT.601 for the partial range."""
    exact = samples.astype(np.float32)
    luma, blue, red = exact[..., 0], exact[..., 1] - 128, exact[..., 2] - 128
    if photometric == "YBR_PARTIAL_422":
        luma, blue, red = (luma - 16) * np.float32(255 / 219), blue * np.float32(255 / 224), red * np.float32(255 / 224)
    green = luma - np.float32(0.114 * 1.772 / 0.587) * blue - np.float32(0.299 * 1.402 / 0.587) * red
    rgb = np.stack([luma + np.float32(1.402) * red, green, luma + np.float32(1.772) * blue], axis=-1)
    return np.floor(rgb + np.float32(0.5)).clip(0, 255).astype(np.uint8)
