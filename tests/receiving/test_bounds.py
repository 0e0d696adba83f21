import io
import socket

from cxr.receiving.bounds import CutOff, Talk


def test_of_a_data_set_no_more_is_kept_than_may_be() -> None:
    kept = CutOff(10)
    for n_bytes in (6, 4):
        assert kept.write(b"x" * n_bytes) == n_bytes
    assert not kept.is_cut
    for n_bytes in (1, 2**20, 0):
        assert kept.write(b"x" * n_bytes) == n_bytes
    assert kept.is_cut
    assert kept.getvalue() == b"x" * 10
    assert isinstance(kept, io.BytesIO), "pynetdicom takes nothing else"


def test_a_message_is_waited_for_unless_it_began_at_the_end() -> None:
    with socket.socket() as connection:
        assert not Talk(connection).is_awaited
        assert Talk(connection, is_under_way=True).is_awaited
        assert not Talk(connection, is_under_way=True, is_late=True).is_awaited
