"""A DICOM file's bytes as a dataset, or the reason why it holds no radiograph.

The transfer syntax decides how the rest of a file is read, so it is taken from the parsed file meta, and the
data set is read by the same parser from where the file meta ends. No second parser may find another syntax:
deflated data, which may unpack without bound, is refused before a byte of it is inflated.

Reasons name tags, known codes of the standard and types of errors. No value that a file holds is quoted: a
patient's name may stand in any tag.

Source: DICOM PS3.10 section 7 (files), PS3.5 annex A and PS3.6 table A-1 (transfer syntaxes),
PS3.3 C.7.3.1.1.1 (modalities).
"""

import logging
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.dicom import limits

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_PIXELS = 100_000_000
PREFIX = slice(128, 132)
GROUPS_THAT_BEGIN_A_FILE = (b"\x02\x00", b"\x08\x00")
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
RLE = "1.2.840.10008.1.2.5"
DECODED = (*NATIVE, JPEG_BASELINE, JPEG_EXTENDED, *JPEG_LOSSLESS, *JPEG_LS, *JPEG_2000, *HTJ2K, RLE)
"""The transfer syntaxes that are read."""
RADIOGRAPH_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography Image Storage
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray Image Storage - For Processing
)
"""The SOP classes that hold radiographs and nothing else (PS3.4 B.5)."""
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.8.1")
DIRECTORY = "1.2.840.10008.1.3.10"
RADIOGRAPHS = ("CR", "DX", "DR", "RG", "OT", "SC", "")
"""Computed, digital (DX by the standard, DR by custom) and plain radiography; secondary captures are called OT
or SC; some exports leave the modality out."""
CODES = (
    "AR AS ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DR DS DX EC ECG EEG EMG EOG EPS "
    "ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF "
    "OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT "
    "RWV SC SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC"
)
MODALITIES = frozenset(CODES.split())
"""The codes of PS3.3 C.7.3.1.1.1, those in use and the retired ones: what may be quoted."""
UID_GRAMMAR = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
LONGEST_UID = 64


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes begin as a DICOM file, with its preamble, or without as some archives export it."""
    if data[PREFIX] == b"DICM" or data[:4] == b"DICM":
        return True
    if data[:2] not in GROUPS_THAT_BEGIN_A_FILE or len(data) < 12 or data[2:4] > b"\x18\x00":
        return False
    is_explicit = data[4:6].isalpha() and data[4:6].isupper()
    return is_explicit or int.from_bytes(data[4:8], "little") <= 64


def read_dataset(data: bytes, tags: Sequence[str]) -> "Dataset":
    """Return the named tags of a file; its `file_meta` holds the transfer syntax.

    Raises:
        UnreadableError: the transfer syntax is not one of `DECODED`, the file is a directory, it is damaged, or has
            very many parts.
    """
    stream = limits.CountedReads(data)
    try:
        return _read(stream, data, tags)
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # pydicom raises AttributeError, ValueError, NotImplementedError, struct.error, …
        if stream.n_reads > limits.MAX_READS:
            raise limits.too_many_parts() from None
        raise UnreadableError("damaged", f"DICOM that cannot be parsed ({type(error).__name__})") from None


def _read(stream: limits.CountedReads, data: bytes, tags: Sequence[str]) -> "Dataset":
    from pydicom import filereader
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    silence_pydicom()
    stream.seek(132 if data[PREFIX] == b"DICM" else 4 if data[:4] == b"DICM" else 0)
    meta = FileMetaDataset(
        filereader.read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    )
    syntax = str(meta.get("TransferSyntaxUID") or "") or _guessed_syntax(data, stream.tell())
    if str(meta.get("MediaStorageSOPClassUID") or "") == DIRECTORY:
        raise UnreadableError("dicom_of_something_else", "a DICOMDIR, which lists files and holds no image")
    _require_decoded(syntax)
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    wanted = [tag for tag in map(tag_for_keyword, tags) if tag is not None]
    body = filereader.read_dataset(
        stream, implicit, little, stop_when=limits.refuse_long_character_set, specific_tags=wanted
    )
    limits.require_short_values(body)
    body.walk(lambda _dataset, _element: None)  # converts every value now, not where it is used
    meta.TransferSyntaxUID = UID(syntax)
    return FileDataset(stream, body, None, meta, implicit, little)


def silence_pydicom() -> None:
    """Keep pydicom's warnings and messages off the terminal and the logs: they quote the values of tags."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is the rule


def _guessed_syntax(data: bytes, start: int) -> str:
    """Return the syntax of a file whose meta names none: explicit where a value representation can be read."""
    representation = data[start + 4 : start + 6]
    return EXPLICIT if representation.isalpha() and representation.isupper() else IMPLICIT


def _require_decoded(syntax: str) -> None:
    from pydicom.uid import UID

    if syntax in DECODED:
        return
    is_known = UID(syntax).type == "Transfer Syntax"
    name = UID(syntax).name if is_known else "a transfer syntax that is not in the standard"
    why = ", which may unpack without bound" if syntax in DEFLATED else ""
    word = "deflated DICOM: " if syntax in DEFLATED else "DICOM as "
    raise UnreadableError("unsupported_format", f"{word}{name}{why}")


def require_radiograph(dataset: "Dataset") -> None:
    """Raise UnreadableError unless the dataset is one radiograph of a size that is read.

    Raises:
        UnreadableError: of another modality, without pixels, with several frames, as colour table, or over 100
            million pixels. Only codes of the standard are quoted.
    """
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality not in RADIOGRAPHS:
        known = f"modality {modality!r}" if modality in MODALITIES else "its modality is no code of the standard"
        raise UnreadableError("dicom_of_something_else", known)
    if "PixelData" not in dataset:
        raise UnreadableError("dicom_of_something_else", "no PixelData (7FE0,0010): a report, a plan or a waveform")
    if (whole(dataset, "NumberOfFrames", 1) or 1) != 1:
        raise UnreadableError("dicom_of_something_else", "several frames")
    if photometric_interpretation(dataset) == "PALETTE COLOR":
        raise UnreadableError("unsupported_format", "palette DICOM")
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    if rows * columns > MAX_PIXELS:
        raise UnreadableError("too_large", f"{columns}×{rows}, at most {MAX_PIXELS:,} pixels")


def photometric_interpretation(dataset: "Dataset") -> str:
    """Return (0028,0004) in the standard's spelling; empty where it is missing."""
    return str(dataset.get("PhotometricInterpretation") or "").strip().upper()


def whole(dataset: "Dataset", keyword: str, missing: int | None = None) -> int:
    """Return a tag's value as a whole number.

    Args:
        dataset: where the tag is looked up.
        keyword: the tag.
        missing: what an absent or empty tag stands for; None where the tag is required.

    Raises:
        UnreadableError: the tag is required and missing, or holds something else; the message names the tag.
    """
    value = number(dataset, keyword, missing)
    if value is None or value != int(value):
        raise UnreadableError("damaged", f"{name_of(keyword)} is missing or no whole number")
    return int(value)


def number(dataset: "Dataset", keyword: str, missing: float | None = None) -> float | None:
    """Return a tag's first value as a finite number, or `missing` where the tag is absent or empty.

    Raises:
        UnreadableError: the tag holds something else; the message names the tag and quotes no value.
    """
    try:
        value = dataset.get(keyword)
        if not isinstance(value, str | bytes) and hasattr(value, "__len__"):
            value = value[0] if len(value) else None
        if value is None or str(value).strip() == "":
            return missing
        converted = float(value)
    except MemoryError:
        raise
    except Exception:  # pydicom converts when a tag is first looked up
        converted = float("nan")
    if abs(converted) < float("inf"):  # false for NaN
        return converted
    raise UnreadableError("damaged", f"{name_of(keyword)} is not a number")


def name_of(keyword: str) -> str:
    """Return a tag as messages name it: `RescaleSlope (0028,1053)`."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def is_uid(text: str) -> bool:
    """Return whether a text is a UID of two parts or more (PS3.5 section 9.1)."""
    return len(text) <= LONGEST_UID and UID_GRAMMAR.fullmatch(text) is not None
