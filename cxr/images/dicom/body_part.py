"""The part of the body that a DICOM file says it shows.

The tag is often empty or set by hand, so it speaks against an image and never for it. Only the standard's defined terms
are returned: in any other value a patient's name may stand.

Source: DICOM PS3.16 annex L (defined terms of Body Part Examined).
"""

import re

from cxr.images.dicom.file import is_dicom, read_dataset

TAG = "BodyPartExamined"
TERMS = (
    "ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ARM AXILLA BACK BLADDER BRAIN BREAST BUTTOCK CALCANEUS CALF CAROTID "
    "CEREBELLUM CERVIX CHEEK CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CSPINE CTSPINE DUODENUM EAR ELBOW "
    "EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER HAND HEAD HEADNECK HIP HUMERUS IAC ILEUM ILIUM JAW "
    "JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE MAXILLA MOUTH NECK NOSE ORBIT OVARY PANCREAS PAROTID "
    "PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL "
    "SPLEEN SSPINE STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE "
    "TSPINE ULNA URETER URETHRA UTERUS VAGINA VULVA WRIST ZYGOMA"
)
ELSEWHERE = frozenset(TERMS.split())
"""The defined terms that are not imaged as a chest is; ribs, sternum, heart, lungs and the like are."""


def read_other_body_part(data: bytes) -> str | None:
    """Return the body part that a DICOM file states if it is not the chest, such as `HAND`; None for any other file.

    Raises:
        UnreadableError: the file is damaged.
    """
    if not is_dicom(data):
        return None
    stated = str(read_dataset(data, [TAG]).get(TAG) or "")
    term = re.sub(r"[^A-Z]", "", stated.upper())
    return term if term in ELSEWHERE else None
