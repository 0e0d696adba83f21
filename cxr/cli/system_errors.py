"""What the operating system refuses, in one sentence that says what the user can do about it.

An error that only a mistake of this program can cause, such as a bad file descriptor, is not explained: it keeps its
traceback.
"""

import errno
import os

from cxr.storage.local_files import DISK_FULL

WAYS_OUT = {
    errno.EACCES: "give this user the permission, or choose another folder",
    errno.EPERM: "give this user the permission, or choose another folder",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.ENOENT: "put it back, or name one that exists",
    errno.EEXIST: "move it away, or choose another name",
    errno.ENOTEMPTY: "move it away, or choose another name",
    errno.EISDIR: "a folder is in the place of a file: move it away",
    errno.ENOTDIR: "a file is in the place of a folder: move it away",
    errno.ENAMETOOLONG: "choose a shorter name, or a folder nearer to the root",
    errno.ELOOP: "its links lead in a circle: mend them",
    errno.EMFILE: "let a process open more files (`ulimit -n`)",
    errno.ENFILE: "close other programs, or let this machine open more files",
    errno.EFBIG: "let files grow larger (`ulimit -f`), or choose another disk",
    errno.ENOMEM: "free memory, or close other programs",
    errno.EAGAIN: "let this user start more processes (`ulimit -u`), or close other programs",
    errno.EBUSY: "wait until no other program uses it",
    errno.EIO: "check the disk, or the server that it is on",
    errno.ENODEV: "connect the disk or the share again",
    errno.ENXIO: "connect the disk or the share again, or name a regular file",
    errno.ESTALE: "mount the share again",
    errno.ENOTCONN: "mount the share again",
    errno.EHOSTDOWN: "mount the share again, or check the network",
    errno.EHOSTUNREACH: "check the network",
    errno.ENETUNREACH: "check the network",
    errno.ECONNREFUSED: "start the server, or check its address",
    errno.ECONNRESET: "check the network and the server",
    errno.ETIMEDOUT: "check the network and the server",
}
"""What the user can do about an error of the operating system. Others, such as a bad file descriptor, are ours."""
NUMBERS = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT}
"""Of errors that libraries raise without a number."""


def is_explained(error: OSError) -> bool:
    """Return whether `explain` has words for an error."""
    return _number(error) in {*DISK_FULL, *WAYS_OUT}


def explain(error: OSError) -> str:
    """Return one sentence about an error that `is_explained`: the file, what the system says, and the way out."""
    number = _number(error)
    if number in DISK_FULL:
        return f"no space is left on the disk ({error}): free some."
    names = [repr(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    cause = error.strerror or str(error) or os.strerror(number)
    refused = f"{' or '.join(names)} cannot be used ({cause})" if names else f"the system refuses a file ({cause})"
    return f"{refused}: {WAYS_OUT[number]}, then type the same command again."


def _number(error: OSError) -> int:
    """Return the number that the operating system gave an error; 0 where a library has numbered it in its own way."""
    number = error.errno or NUMBERS.get(type(error), 0)
    return number if type(error) is type(OSError(number, "")) else 0  # not so of ssl's errors
