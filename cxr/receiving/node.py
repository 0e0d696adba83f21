"""A DICOM node that takes radiographs: a storage SCP, with C-ECHO, for those who may call.

An instance is confirmed when it is on the disk. What cannot be stored is refused with a status and a line of the log
that names the caller's AE title, the reason, and no value of the data set. Only SOP classes of radiographs, in transfer
syntaxes that the reader knows, are negotiated. AE titles are names and no proof: any program can send any.

This is the only module that speaks to pynetdicom's association; `cxr.receiving.bounds` bounds it.

Source: DICOM PS3.4 annex B (storage), PS3.7 section 9.1 (C-STORE, C-ECHO), PS3.8 section 9.3.2 (AE titles).
"""

import importlib.util
import ipaddress
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from cxr.config import require_ae_title
from cxr.errors import ConfigError, DiskFullError
from cxr.images.dicom.file import DECODED, RADIOGRAPH_CLASSES, is_uid
from cxr.images.source import MAX_IMAGE_BYTES
from cxr.receiving import bounds
from cxr.receiving.delivery import Delivery
from cxr.receiving.instances import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    STORED,
    RefusedError,
    read_instance,
)

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom import AE, events
    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

log = logging.getLogger(__name__)

VERIFICATION = "1.2.840.10008.1.1"
MOST_ASSOCIATIONS = 16
SPEAKS_IN_S = 10.0
"""Seconds after which a connection that asks for nothing takes the place of no sender any more."""
PDU_BYTES = 2**17
"""What senders are asked for at most; `bounds.MAX_PDU_BYTES` is what they get away with."""
GRACE_S = 30.0
"""Seconds that an instance under way gets when the node is stopped."""
MAX_COMMENT = 64
DATA = b"\x04"
"""What a PDU of data begins with."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a node is reached, and by whom.

    Raises:
        ConfigError: an AE title or the host is none, or other machines reach it and no caller is named.
    """

    ae_title: str = "CXR"
    host: str = "127.0.0.1"
    port: int = 11112
    callers: Sequence[str] = ()
    """AE titles of those who may call; empty for anybody."""

    def __post_init__(self) -> None:
        for option, title in (("--ae-title", self.ae_title), *(("--caller", caller) for caller in self.callers)):
            require_ae_title(option, title)
        try:
            host = ipaddress.ip_address(self.host)
        except ValueError as error:
            raise ConfigError(
                f"--host must be an address of this machine, such as 127.0.0.1, got {self.host!r}."
            ) from error
        if not (host.is_loopback or self.callers):
            raise ConfigError(
                f"--host {self.host!r} is reached from other machines: name those who may send with --caller AETITLE, "
                "or leave --host out to listen on this machine alone."
            )


class Node:
    """A DICOM node that listens from `start` to `stop`.

    Args:
        address: where, and for whom.
        delivery: open as long as the node listens.
        max_mb: size of a data set in MiB, at most.

    Raises:
        ConfigError: pynetdicom is not installed, or the size is out of range.
    """

    def __init__(self, address: Address, delivery: Delivery, max_mb: int) -> None:
        if importlib.util.find_spec("pynetdicom") is None:
            raise ConfigError(
                "`cxr listen` needs pynetdicom, which is not installed: install cxr with the extra [listen]."
            )
        if not 1 <= max_mb <= MAX_IMAGE_BYTES >> 20:
            raise ConfigError(f"--max-mb must lie between 1 and {MAX_IMAGE_BYTES >> 20}, got {max_mb}.")
        self.address = address
        self._delivery = delivery
        self._max_bytes = max_mb << 20
        self._talks: WeakKeyDictionary[Association, bounds.Talk] = WeakKeyDictionary()
        self._is_ending = Event()
        self._one_at_a_time = Lock()
        """Reading an image takes several times its size of memory."""

    def start(self) -> int:
        """Listen; return the port.

        Raises:
            ConfigError: the port or the address cannot be used.
        """
        from pynetdicom import evt

        self._entity = _entity(self.address)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._open),
            (evt.EVT_DATA_RECV, self._receive),
            (evt.EVT_DATA_SENT, self._answer),
            (evt.EVT_CONN_CLOSE, self._close),
            (evt.EVT_REJECTED, _say_rejected),
            (evt.EVT_C_STORE, self._store),
        ]
        place = (self.address.host, self.address.port)
        try:
            server = self._entity.start_server(place, block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigError(
                f"port {self.address.port} of {self.address.host!r} cannot be used "
                f"({os.strerror(error.errno or 0)}): give another --port, or --port 0 for any free port."
            ) from error
        self._server = cast("ThreadedAssociationServer", server)
        return self._server.server_address[1]

    def stop(self) -> None:
        """Take no more; let what is under way be stored and confirmed, for `GRACE_S` at most."""
        self._is_ending.set()
        self._server.shutdown()
        deadline = time.monotonic() + GRACE_S
        while self._is_storing() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._entity.active_associations:
            association.abort()

    def _is_storing(self) -> bool:
        return any(talk.is_awaited and sender.is_alive() for sender, talk in list(self._talks.items()))

    def _open(self, event: "events.Event") -> None:
        """Bound a connection that has been made."""
        connection = cast("AssociationSocket", event.assoc.dul.socket)
        bounds.bound_reads(connection)
        self._talks[event.assoc] = bounds.Talk(cast(socket, connection.socket))

    def _receive(self, event: "events.Event") -> None:
        """Bound what is kept of a message that is coming; cut off a sender that sends more than it may."""
        if event.data[:1] != DATA:
            return
        talk = self._talks[event.assoc]
        if not talk.is_under_way:
            talk.is_under_way, talk.is_late = True, self._is_ending.is_set()
        if not bounds.bound_message(event.assoc, self._max_bytes):
            log.warning("%s: cut off, as it sends on without waiting for an answer", _caller(event.assoc))
            event.assoc.abort()

    def _answer(self, event: "events.Event") -> None:
        """Note that a message was answered."""
        if event.data[:1] == DATA:
            self._talks[event.assoc].is_under_way = False

    def _close(self, event: "events.Event") -> None:
        """Say what came of a connection that has ended."""
        talk = self._talks[event.assoc]
        talk.socket.close()  # pynetdicom leaves it to the garbage collector if the sender was first
        if talk.is_under_way:
            log.warning("%s: the connection ended before its last image was confirmed", _caller(event.assoc))
        if talk.n_stored:
            log.info("%s: %d images stored", _caller(event.assoc), talk.n_stored)

    def _store(self, event: "events.Event") -> "int | Dataset":
        """Store an instance; return the status."""
        talk = self._talks[event.assoc]
        try:
            with self._one_at_a_time:
                if talk.is_late:
                    raise RefusedError(OUT_OF_RESOURCES, "this node is being stopped")
                self._keep(event)
        except RefusedError as error:
            return _refuse(event, error.status, str(error))
        except (DiskFullError, OSError) as error:
            why = "no space is left" if isinstance(error, DiskFullError) else os.strerror(error.errno or 0)
            return _refuse(event, OUT_OF_RESOURCES, f"it cannot be written ({why})")
        except MemoryError:
            return _refuse(event, OUT_OF_RESOURCES, "this machine is short of memory")
        talk.n_stored += 1
        return STORED

    def _keep(self, event: "events.Event") -> None:
        """Store the instance of a request.

        Raises:
            RefusedError: it may not be stored.
            DiskFullError: no space is left.
            OSError: it cannot be written.
        """
        request = cast("C_STORE", event.request)
        if getattr(request.DataSet, "is_cut", False):
            raise RefusedError(CANNOT_UNDERSTAND, f"the data set has over {self._max_bytes >> 20} MiB")
        sop_class = str(request.AffectedSOPClassUID)
        if sop_class != event.context.abstract_syntax:
            raise RefusedError(DOES_NOT_MATCH, "the SOP class is not that of the presentation context")
        uid = str(request.AffectedSOPInstanceUID)
        if not is_uid(uid):
            raise RefusedError(CANNOT_UNDERSTAND, "the SOP Instance UID of the request is no UID")
        self._delivery.put(read_instance(event.encoded_dataset(), sop_class, uid))


def _entity(address: Address) -> "AE":
    """Return pynetdicom's node, silent: it logs what hostile senders send."""
    from pynetdicom import AE, _config

    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    entity = AE(address.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(address.callers)
    entity.maximum_associations = MOST_ASSOCIATIONS
    entity.acse_timeout = SPEAKS_IN_S
    entity.maximum_pdu_size = PDU_BYTES
    entity.network_timeout = bounds.SILENT_FOR_S
    entity.add_supported_context(VERIFICATION)
    for sop_class in RADIOGRAPH_CLASSES:
        entity.add_supported_context(sop_class, list(DECODED))
    return entity


def _refuse(event: "events.Event", status: int, why: str) -> "Dataset":
    """Return the answer to an instance that is not stored, and log it."""
    from pydicom import Dataset

    uid = str(cast("C_STORE", event.request).AffectedSOPInstanceUID)
    what = uid if is_uid(uid) else "an image"
    log.warning("%s: %s is refused with status %04X: %s", _caller(event.assoc), what, status, why)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = why[:MAX_COMMENT]
    return answer


def _say_rejected(event: "events.Event") -> None:
    log.warning("%s: may not call, calls another AE title, or is one too many at once", _caller(event.assoc))


def _caller(association: "Association") -> str:
    return str(association.requestor.ae_title).strip() or "a caller without a name"
