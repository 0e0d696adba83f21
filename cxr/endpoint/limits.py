"""What a request may ask for; whatever asks for more is refused with a sentence and a status between 400 and 499.

The number of pixels is the reader's limit (`cxr.images.decoding`), as it is everywhere else.
"""

from dataclasses import dataclass

AT_ONCE = 16
"""All requests together may hold this many times the bytes of one, so that many large ones do not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for.

    Attributes:
        max_images: Images in a request, at most, 1 to 1000.
        max_mb: Size of a request in MiB, at most, 1 to 1024; all requests together hold 16 times as much.
        timeout: Seconds until a request has been received and answered, at most, 1 to 3600.
    """

    max_images: int = 64
    max_mb: int = 64
    timeout: float = 60.0

    @property
    def n_bytes(self) -> int:
        """Bytes of a request, at most."""
        return self.max_mb * 2**20

    @property
    def n_bytes_at_once(self) -> int:
        """Bytes of all requests together, at most."""
        return AT_ONCE * self.n_bytes
