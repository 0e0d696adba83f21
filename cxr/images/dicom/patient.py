"""The patient of a DICOM file, as a keyed hash.

The patient's id is read for one purpose, to keep the images of a patient in one fold, and leaves this module only as a
keyed hash (HMAC-SHA256). The key stays on this machine: equal ids give equal hashes, and without the key nobody can
find an id by trying.
"""

import hashlib
import hmac
import logging
import secrets
import unicodedata
from pathlib import Path

from cxr.errors import DamagedError, UnreadableError
from cxr.images.dicom.file import read_dataset
from cxr.storage import files
from cxr.storage.cache_folder import CacheFolder

log = logging.getLogger(__name__)

KEY_BYTES = 32
PLACEHOLDER = "dicom-placeholder"
"""Takes the place of a patient's hash where the id is a word that stands for nobody."""
WORDS = (
    "anon anonym anonyme anonymisiert anonymised anonymized anonymous anonymus anonimo blank default deidentified "
    "desconocido dummy empty hidden id inconnu na nan nil noid noname none notapplicable notavailable null patient "
    "patientid redacted removed sconosciuto subject test unbekannt undefined unk unknown unnamed unspecified"
)
PLACEHOLDERS = frozenset(WORDS.split())
"""What anonymisation tools and people write for an id, in lower case without spaces and punctuation."""


def hash_patient(data: bytes, key: bytes) -> str | None:
    """Return the keyed hash of the patient id in a DICOM file, or PLACEHOLDER; None if the file has no id.

    Args:
        data: the bytes of the file.
        key: as `patient_key` returns it.

    Raises:
        UnreadableError: the id cannot be read. Such an image is not used: its patient might be in two folds.
    """
    try:
        patient_id = str(read_dataset(data, ["PatientID"]).get("PatientID") or "").strip()
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableError("damaged", f"its patient id cannot be read ({type(error).__name__})") from None
    if not patient_id:
        return None
    if _is_placeholder(patient_id):
        return PLACEHOLDER
    return "dicom-" + hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:16]


def _is_placeholder(patient_id: str) -> bool:
    """Return whether an id stands for nobody: a known word, or one sign again and again as in 0000, XXX or ***."""
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", patient_id).casefold() if sign.isalnum())
    return not letters or letters in PLACEHOLDERS or set(letters) in ({"0"}, {"x"})


def patient_key(cache: Path) -> bytes:
    """Return the key for patient ids that is kept in `cache`; created at first use, readable by its owner alone.

    Raises:
        DamagedError: the key has another length: with it, patients would get other ids.
    """
    path = CacheFolder(cache).patient_key
    with files.locked(CacheFolder(cache).patient_key_lock, "the key for patient ids", patience_s=10):
        if not path.exists():
            with files.replacing(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(KEY_BYTES))
        if path.stat().st_mode & 0o077:
            log.warning("%s can be read by others, who can then guess patient ids: chmod 600 it", path)
        key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise DamagedError(
            f"the key for patient ids {str(path)!r} must have {KEY_BYTES} bytes, got {len(key)}: put back a copy, or "
            "delete it and begin new runs, because patients then get other ids."
        )
    return key
