"""Sends instances to a DICOM node (C-STORE), each until the node has confirmed it.

What the node has taken is written down after its answer. If this program is killed between the two, the instance is
sent again under the same SOP Instance UID, by which the node knows it.

This is the only module of its package that speaks to pynetdicom.

Source: DICOM PS3.4 annex B (storage, statuses), PS3.7 section 9.1.1 (C-STORE), PS3.8 section 9.3.4 (rejections).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.config import DicomNode
from cxr.errors import NodeError
from cxr.images.dicom.file import EXPLICIT, IMPLICIT, silence_pydicom
from cxr.storage.dicom_folder import DicomFolder

if TYPE_CHECKING:
    from pynetdicom.association import Association

log = logging.getLogger(__name__)

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ANSWERS_IN_S = 30.0
OUT_OF_RESOURCES = range(0xA700, 0xA800)
WARNINGS = (0x0001, *range(0xB000, 0xC000), 0x0107, 0x0116)
"""The instance is stored (PS3.7 annex C.4)."""


def send_missing(folder: DicomFolder, node: DicomNode, calling: str) -> int:
    """Send the instances that a node has not confirmed; return their number.

    Args:
        folder: of the instances; hold its lock.
        node: where to.
        calling: AE title of this program.

    Raises:
        NodeError: the node cannot be reached, or has not taken all.
    """
    confirmed = folder.sent_uids(str(node))
    missing = [path for path in folder.instances() if path.stem not in confirmed]
    if not missing:
        return 0
    with _associated(node, calling, len(missing)) as association:
        refusals = _send_all(association, folder, node, missing)
    n_sent = len(missing) - len(refusals)
    log.info("DICOM: %s has taken %d instances", node, n_sent)
    if refusals:
        raise NodeError(
            f"{node} has taken {n_sent} of {len(missing)} instances and not the others ({refusals[0]}): mend that and "
            "type the same command again; they are sent then."
        )
    return n_sent


@contextmanager
def _associated(node: DicomNode, calling: str, n_waiting: int) -> "Iterator[Association]":
    from pynetdicom import AE, _config

    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    silence_pydicom()
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = ANSWERS_IN_S
    for sop_class in (COMPREHENSIVE_SR, SECONDARY_CAPTURE):
        entity.add_requested_context(sop_class, [EXPLICIT, IMPLICIT])
    association = entity.associate(node.host, node.port, ae_title=node.ae_title)
    if not association.is_established:
        why = "it refuses the association" if association.is_rejected else "nobody answers"
        raise NodeError(
            f"--dicom-to {node} cannot be sent to ({why}): {n_waiting} instances wait; check the address and the AE "
            "titles, and type the same command again."
        )
    try:
        yield association
    finally:
        association.release()


def _send_all(association: "Association", folder: DicomFolder, node: DicomNode, paths: Sequence[Path]) -> list[str]:
    """Send instances; return why each that was not taken was not."""
    refusals: list[str] = []
    for number, path in enumerate(paths):
        status = _send(association, path)
        if status is not None and (status == 0 or status in WARNINGS):
            folder.confirm(path.stem, str(node), status)
            continue
        refusals.append("the connection has ended" if status is None else f"status {status:04X} for {path.stem}")
        if status is None or status in OUT_OF_RESOURCES:
            return refusals + refusals[-1:] * (len(paths) - number - 1)
    return refusals


NOT_NEGOTIATED = 0x0122
"""SOP class not supported."""


def _send(association: "Association", path: Path) -> int | None:
    """Send an instance; return the status that the node has answered with, None without an answer."""
    from pydicom import dcmread

    instance = dcmread(path)
    if instance.SOPClassUID not in {context.abstract_syntax for context in association.accepted_contexts}:
        return NOT_NEGOTIATED
    if not association.is_established:
        return None
    return association.send_c_store(instance).get("Status")
