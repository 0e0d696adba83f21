"""How far a push or a pull is, in files and bytes."""

import logging
from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)
MB = 1_000_000


def show_progress(done: str, names: Iterable[str], sizes: Mapping[str, int]) -> None:
    """Take each name of a file that is done, and log how far that is.

    Args:
        done: what was done with the file, such as `pushed`.
        names: files, as they are done.
        sizes: of all files, in bytes.
    """
    of = sum(sizes.values())
    n_bytes = 0
    for name in names:
        n_bytes += sizes[name]
        text = f"{done} {name}: {n_bytes / MB:,.1f} of {of / MB:,.1f} MB"
        log.info(text, extra={"bar": f"{done}, bytes", "done": n_bytes, "of": of})
