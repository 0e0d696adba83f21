"""How much an association may hold of this machine: a sender may be hostile, or its cable may be cut.

pynetdicom reads a PDU of any length, keeps a message of any length, and queues any number of messages. Here a PDU and a
command are short, a connection that falls silent amid a PDU ends, of a data set above the limit no more is kept (it is
refused when it has come whole), and a sender that does not wait for its answer is cut off.

Source: DICOM PS3.8 section 9.3 (PDUs), PS3.7 section 6.3 (messages).
"""

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.transport import AssociationSocket

MAX_PDU_BYTES = 2**20
MAX_COMMAND_BYTES = 2**20
MOST_QUEUED = 1
"""Messages that wait for the one before: a sender has to wait for its answer, unless more was negotiated."""
SILENT_FOR_S = 60.0


class CutOff(io.BytesIO):
    """A data set of which no more than a number of bytes is kept.

    Args:
        n_bytes: kept at most.
    """

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self._left = n_bytes
        self.is_cut = False

    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep the data if there is room, as if all was written."""
        if len(data) <= self._left:
            self._left -= len(data)
            super().write(data)
        else:
            self._left, self.is_cut = 0, True
        return len(data)


@dataclass
class Talk:
    """How far an association is."""

    socket: socket.socket
    is_under_way: bool = False
    """A message is being received, or was and is not answered yet."""
    is_late: bool = False
    """It began to come when the node was being stopped."""
    n_stored: int = 0

    @property
    def is_awaited(self) -> bool:
        """Whether a message is under way that the node still answers before it stops."""
        return self.is_under_way and not self.is_late


def bound_reads(connection: "AssociationSocket") -> None:
    """Let an open connection end where a PDU is very long, or does not go on."""
    cast(socket.socket, connection.socket).settimeout(SILENT_FOR_S)
    receive: Callable[[int], bytearray] = connection.recv

    def receive_few(nr_bytes: int) -> bytearray:
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError(f"a PDU of {nr_bytes:,} bytes")
        return receive(nr_bytes)

    connection.recv = receive_few


def bound_message(association: "Association", max_bytes: int) -> bool:
    """Bound what is kept of the message that is being received; return False if the sender has to be cut off.

    Args:
        association: which receives it.
        max_bytes: of a data set.
    """
    if association.dimse.msg_queue.qsize() > MOST_QUEUED:
        return False
    message = association.dimse.message
    if message is None:  # this is the first that comes of it
        return True
    kept = message.data_set
    if isinstance(kept, io.BytesIO) and not isinstance(kept, CutOff):
        bounded = CutOff(max_bytes)
        bounded.write(kept.getvalue())
        message.data_set = bounded
    return message.encoded_command_set.tell() <= MAX_COMMAND_BYTES
