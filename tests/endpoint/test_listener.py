import pytest

from cxr.endpoint.listener import listen
from cxr.errors import ConfigError

TOKEN = "0123456789abcdef"  # noqa: S105 the tests' own


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_an_address_of_this_machine_alone_needs_no_token(host: str) -> None:
    listener = listen(host, 0)
    with listener.socket:
        assert listener.address.startswith("http://")
        assert listener.answers_to("127.0.0.1:8600")
        assert listener.answers_to("LOCALHOST")
        assert listener.answers_to(listener.address.removeprefix("http://"))
        assert not listener.answers_to("evil.example")
        assert not listener.answers_to("evil.example:80")
        assert not listener.answers_to("")


def test_an_address_that_others_reach_needs_a_token() -> None:
    everywhere = "0.0.0.0"  # noqa: S104 it is refused
    with pytest.raises(ConfigError, match="is reached from other machines: set CXR_TOKEN or give --token"):
        listen(everywhere, 0)
    listener = listen(everywhere, 0, TOKEN)
    with listener.socket:
        assert listener.answers_to("cxr.hospital.example")


@pytest.mark.parametrize("token", ["short", "with a space in it", "ümlaut-ümlaut-ümlaut", TOKEN + "\n"])
def test_a_token_that_is_short_or_cannot_be_sent_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="--token must have 16 or more ASCII characters and no space") as error:
        listen("127.0.0.1", 0, token)
    assert token not in str(error.value)


def test_a_port_that_is_taken_is_refused() -> None:
    with listen("127.0.0.1", 0).socket as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of '127.0.0.1' cannot be used \(Address already in use\)"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["a..b", "x" * 300])
def test_a_host_that_is_not_known_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is not known here: give an address of this machine"):
        listen(host, 0)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with listener.socket:
        assert listener.address.startswith("http://[::1]:")
        assert listener.answers_to("[::1]:8600")
