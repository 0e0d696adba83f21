"""Files in an object store, `s3://bucket/…`, through fsspec: written whole or not at all, locked by leases.

A path there is universal_pathlib's UPath, which has the methods of `pathlib.Path` and goes by that type here. A file
is filled on the local disk and uploaded; the store shows it when it is whole, and a killed upload shows nothing.

No file lock reaches across machines here, so a lock is an object that its holder writes anew every few seconds.
Whoever finds it older than LEASE_S, by the store's own clock, writes over it: conditional requests (If-None-Match,
If-Match) let one process alone take it, and tell the former holder, who then writes nothing more. A store cannot tie
an upload to a lock: one that is under way when its process is halted for longer than LEASE_S may still end.

Needs the extra `cxr[s3]`. Address and credentials are botocore's: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, …
"""

import importlib.util
import json
import logging
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from cxr.errors import ConfigError, RunError

log = logging.getLogger(__name__)

LEASE_S = 12
"""A lock that was not written anew for so long is nobody's."""
RENEWED_EVERY_S = 3
N_TRIES = 100


def is_object(path: Path) -> bool:
    """Tell whether a path is one that `open_path` has returned, or lies below one."""
    return not isinstance(path, Path)


def names_object(path: Path) -> bool:
    """Tell whether a path is a URL as it was typed, perhaps below a folder; `pathlib` makes one slash of its two."""
    return "s3:" in path.parts


def url_of(path: Path) -> str:
    """Return the URL that a path was typed as."""
    return f"s3://{str(path).partition('s3:')[2].lstrip('/')}"


@lru_cache
def open_path(url: str) -> Path:
    """Return the path in an object store that a URL names.

    Raises:
        ConfigError: the extra is not installed, or the bucket cannot be reached.
    """
    if importlib.util.find_spec("s3fs") is None or importlib.util.find_spec("upath") is None:
        raise ConfigError(f"{url} needs s3fs and universal_pathlib: install cxr with the extra [s3].")
    from upath import UPath

    place = cast(Path, UPath(url, use_listings_cache=False))
    bucket = url.split("/")[2]
    try:
        _fs(place).call_s3("head_bucket", Bucket=bucket)
    except Exception as error:  # botocore's many, and what s3fs makes of them
        raise ConfigError(
            f"the bucket {bucket!r} cannot be reached ({error}): make it, and set AWS_ENDPOINT_URL and credentials as "
            "for any S3 client."
        ) from error
    return place


def _fs(path: Path) -> Any:
    return cast(Any, path).fs


def _call(path: Path, request: str, **words: Any) -> dict[str, Any]:
    _, _, bucket, key = str(path).split("/", 3)
    return _fs(path).call_s3(request, Bucket=bucket, Key=key, **words)


def _put(path: Path, data: bytes, **words: Any) -> str | None:
    """Write an object, and return its tag; None if another has written it, so that the condition does not hold."""
    try:
        return _call(path, "put_object", Body=data, **words)["ETag"]
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (404, 409, 412):
            raise
        return None


def read_bytes(path: Path) -> bytes:
    """Return an object's bytes, in one request: while it is being replaced the old or the new ones, none mixed."""
    return _fs(path).cat_file(str(path))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a local path; once filled it is uploaded as `path` in one step.

    Raises:
        RunError: another process has taken over a lock that this one held.
    """
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        for lease in tuple(_held):
            lease.require()
        _fs(path).put_file(str(temporary), str(path))


def sweep(folder: Path) -> None:
    """Forget the parts of files that a killed process has begun to upload under `folder`."""
    _, _, bucket, prefix = str(folder).split("/", 3)
    fs = _fs(folder)
    for begun in fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/").get("Uploads", []):
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=begun["Key"], UploadId=begun["UploadId"])


def append_line(path: Path, line: str) -> None:
    """Add a line to an object, whole among those of other processes: written anew until nobody was faster.

    Raises:
        OSError: others always were.
    """
    for _ in range(N_TRIES):
        try:
            condition = {"IfMatch": _call(path, "head_object")["ETag"]}
            before = read_bytes(path)
        except FileNotFoundError:
            before, condition = b"", {"IfNoneMatch": "*"}
        if _put(path, before + f"{line}\n".encode(), **condition) is not None:
            return
        time.sleep(random.uniform(0.05, 0.5))
    raise OSError("others are always faster")


class Lease:
    """A lock that is this process's as long as it writes it anew."""

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        self._path, self._owner = path, owner
        self._token, self._n_written = uuid.uuid4().hex, 0
        self._tag: str | None = None
        self._ended, self._turn = threading.Event(), threading.Lock()

    def take(self, seen: set[str]) -> bool:
        """Take the lock if it is free or has lapsed; else add its present tag to those seen."""
        if self._write(IfNoneMatch="*"):
            return True
        try:
            answer = _call(self._path, "head_object")
        except FileNotFoundError:  # let go a moment ago
            return False
        seen.add(answer["ETag"])
        store_time = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        has_lapsed = (store_time - answer["LastModified"]).total_seconds() > LEASE_S
        return has_lapsed and self._write(IfMatch=answer["ETag"])

    def _write(self, **condition: str) -> bool:
        """Write the lock if the condition holds; each time other bytes, so that its tag is another."""
        self._n_written += 1
        data = json.dumps({**self._owner, "token": self._token, "written": self._n_written}).encode()
        self._tag = _put(self._path, data, Metadata={"token": self._token}, **condition)
        return self._tag is not None

    def keep(self) -> None:
        """Write the lock anew every few seconds, in a thread, until it is let go."""
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        while not self._ended.wait(RENEWED_EVERY_S):
            try:
                self._renew()
            except Exception as error:  # the network may come back
                log.warning("%s could not be renewed: %s", self._path, error)

    def _renew(self) -> None:
        with self._turn:
            if self._tag is not None and not self._ended.is_set() and not self._write(IfMatch=self._tag):
                self._tag = self._own_tag()

    def _own_tag(self) -> str | None:
        """Return the lock's tag if this process wrote it: a request that was sent twice finds what it wrote itself."""
        try:
            answer = _call(self._path, "head_object")
        except FileNotFoundError:
            return None
        return answer["ETag"] if answer["Metadata"].get("token") == self._token else None

    def require(self) -> None:
        """Write the lock anew; RunError if another process has taken it over."""
        self._renew()
        if self._tag is None:
            raise RunError(
                f"{self._path} was taken over by another process, as nothing was heard of this one for {LEASE_S} s: "
                "nothing more is written here."
            )

    def release(self) -> None:
        """Let go of the lock, if it still is this process's."""
        with self._turn:
            self._ended.set()
            try:
                if self._tag is not None:
                    _call(self._path, "delete_object", IfMatch=self._tag)
            except Exception as error:
                log.warning("%s could not be let go, and lapses: %s", self._path, error)


_held: set[Lease] = set()


@contextmanager
def locked(path: Path, what: str, owner: Mapping[str, Any], *, patience_s: float) -> Iterator[None]:
    """Hold a lease while the block runs; see `cxr.store.locked`.

    It takes up to RENEWED_EVERY_S to find out that a holder lives, and up to LEASE_S that it is dead.
    """
    lease = Lease(path, owner)
    deadline, seen = time.monotonic() + patience_s, set[str]()
    while not lease.take(seen):
        if len(seen) > 1 and time.monotonic() >= deadline:
            raise RunError.in_use(what, _holder(path))
        time.sleep(0.5)
    lease.keep()
    _held.add(lease)
    try:
        yield
    finally:
        _held.discard(lease)
        lease.release()


def _holder(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        return {}
