"""Files in an object store, `s3://bucket/…`, through fsspec: written whole or not at all, locked by leases.

A path in a store is universal_pathlib's UPath. It has the methods of `pathlib.Path` that this project calls, and it is
annotated as `Path`, so that a run's folder has one type wherever it is. Only `is_object` and `open_path` know better.

A file is filled on the local disk and uploaded. The store shows an object when it is whole; a killed upload shows
nothing.

No file lock reaches across machines. A lock is an object that its holder rewrites every few seconds. A process that
finds a lock older than LEASE_S, by the store's own clock, takes it over by overwriting it. Conditional requests
(If-None-Match, If-Match) let exactly one process take a lock, and tell the former holder, which then writes nothing
more. A store cannot tie an upload to a lock: an upload that is under way when its process is halted for longer than
LEASE_S may still finish.

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
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from cxr.errors import ConfigError, RunError
from cxr.storage.local_files import disk_full_as_error

log = logging.getLogger(__name__)

LEASE_S = 12
"""A lock that has not been rewritten for this long is free to take over."""
RENEWED_EVERY_S = 3
N_TRIES = 100


def is_object(path: Path) -> bool:
    """Return whether a path was returned by `open_path`, or is below one that was."""
    return not isinstance(path, Path)


def names_object(path: Path) -> bool:
    """Return whether a path is a URL as a user types it, perhaps joined to a folder; `pathlib` merges its slashes."""
    return "s3:" in path.parts


def is_url(name: str) -> bool:
    """Return whether the name of a file is the URL of an object."""
    return name.startswith("s3://")


def name_of(path: Path) -> str:
    """Return a path as the name of a file, or as the URL that a user typed or joined to a folder."""
    return url_of(path) if names_object(path) else str(path)


def url_of(path: Path) -> str:
    """Return the URL that a user typed as a path."""
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

    path = cast(Path, UPath(url, use_listings_cache=False))
    bucket = url.split("/")[2]
    try:
        _fs(path).call_s3("head_bucket", Bucket=bucket)
    except Exception as error:  # botocore and s3fs raise many types
        raise ConfigError(
            f"the bucket {bucket!r} cannot be reached ({error}): make it, and set AWS_ENDPOINT_URL and credentials as "
            "for any S3 client."
        ) from error
    return path


def _fs(path: Path) -> Any:
    return cast(Any, path).fs


def _call(path: Path, request: str, **words: Any) -> dict[str, Any]:
    _, _, bucket, key = str(path).split("/", 3)
    return _fs(path).call_s3(request, Bucket=bucket, Key=key, **words)


def _put(path: Path, data: bytes, **words: Any) -> str | None:
    """Write an object and return its tag; return None if the condition fails because another process wrote it."""
    try:
        return _call(path, "put_object", Body=data, **words)["ETag"]
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (404, 409, 412):
            raise
        return None


def read_bytes(path: Path) -> bytes:
    """Return an object's bytes, in one request: all from before or all from after it was replaced."""
    return _fs(path).cat_file(str(path), max_concurrency=1)  # more would read a large object in parts


@dataclass(frozen=True)
class StoredObject:
    """An object as a store lists it."""

    url: str
    n_bytes: int
    changed_ns: int
    """When it was written, by the store's clock, in ns since 1970; a store knows whole seconds."""
    tag: str
    """Its ETag, which differs wherever its bytes do."""


def scan(folder: Path) -> Iterator[StoredObject | str]:
    """Yield each object directly under a folder, and the name of each folder there."""
    for answer in _pages(folder, Delimiter="/"):
        yield from (_stored(folder, facts) for facts in answer.get("Contents", []))
        yield from (found["Prefix"].rstrip("/").rpartition("/")[2] for found in answer.get("CommonPrefixes", []))


def walk(folder: Path) -> Iterator[StoredObject]:
    """Yield each object under a folder, at any depth."""
    for answer in _pages(folder):
        yield from (_stored(folder, facts) for facts in answer.get("Contents", []))


def _pages(folder: Path, **words: str) -> Iterator[dict[str, Any]]:
    bucket, prefix = _bucket_and_key(f"{str(folder).rstrip('/')}/")
    more: dict[str, str] = {}
    while True:
        answer = _fs(folder).call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **words, **more)
        yield answer
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _stored(folder: Path, facts: Mapping[str, Any]) -> StoredObject:
    bucket, _ = _bucket_and_key(f"{folder}/")
    changed_ns = int(facts["LastModified"].timestamp()) * 10**9
    return StoredObject(f"s3://{bucket}/{facts['Key']}", facts["Size"], changed_ns, facts["ETag"])


def read_object(url: str, n_bytes: int) -> tuple[bytes, StoredObject]:
    """Return the first bytes of an object, in one request, and what the store says of it afterwards.

    Args:
        url: of the object.
        n_bytes: at most so many are read.
    """
    bucket, key = _bucket_and_key(url)
    data = _fs(open_path(f"s3://{bucket}")).cat_file(f"{bucket}/{key}", start=0, end=n_bytes) if n_bytes else b""
    return data, find_object(url)


def find_object(url: str) -> StoredObject:
    """Return what the store says of an object."""
    bucket, key = _bucket_and_key(url)
    answer = _fs(open_path(f"s3://{bucket}")).call_s3("head_object", Bucket=bucket, Key=key)
    changed_ns = int(answer["LastModified"].timestamp()) * 10**9
    return StoredObject(url, answer["ContentLength"], changed_ns, answer["ETag"])


def _bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def open_binary(path: Path) -> BytesIO:
    """Return what pyarrow can read the object from."""
    return BytesIO(read_bytes(path))


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a temporary file on this machine with the object's bytes and name."""
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(read_bytes(path))
        yield copy


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a local path; when the block ends, that file is uploaded as `path` in one step.

    Raises:
        RunError: another process has taken over a lock that this process held.
        DiskFullError: no space is left on the local disk.
    """
    with disk_full_as_error(path), tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        for lease in tuple(_held):
            lease.require()
        _fs(path).put_file(str(temporary), str(path))


def sweep(folder: Path) -> None:
    """Discard the parts of files that a killed process began to upload under `folder`."""
    _, _, bucket, prefix = str(folder).split("/", 3)
    fs = _fs(folder)
    for upload in fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/").get("Uploads", []):
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def append_line(path: Path, line: str) -> None:
    """Append a line to an object, whole among the lines of other processes.

    The object is read and rewritten on the condition that no other process has written it in between, until one such
    attempt succeeds.

    Raises:
        OSError: other processes wrote in between at each of N_TRIES attempts.
    """
    for _ in range(N_TRIES):
        try:
            condition = {"IfMatch": _call(path, "head_object")["ETag"]}
            before = read_bytes(path)
        except FileNotFoundError:
            condition = {"IfNoneMatch": "*"}
            before = b""
        if _put(path, before + f"{line}\n".encode(), **condition) is not None:
            return
        time.sleep(random.uniform(0.05, 0.5))
    raise OSError(f"other processes wrote to it at each of {N_TRIES} attempts")


class Lease:
    """A lock that this process holds for as long as it keeps rewriting it."""

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        self._path = path
        self._owner = owner
        self._token = uuid.uuid4().hex
        self._n_written = 0
        self._tag: str | None = None
        self._ended = threading.Event()
        self._turn = threading.Lock()

    def take(self, seen: set[str]) -> bool:
        """Take the lock if it is free or has lapsed; otherwise add its current tag to `seen`."""
        if self._write(IfNoneMatch="*"):
            return True
        try:
            answer = _call(self._path, "head_object")
        except FileNotFoundError:  # released a moment ago
            return False
        seen.add(answer["ETag"])
        store_time = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        has_lapsed = (store_time - answer["LastModified"]).total_seconds() > LEASE_S
        return has_lapsed and self._write(IfMatch=answer["ETag"])

    def _write(self, **condition: str) -> bool:
        """Write the lock if the condition holds; the bytes differ each time, so that its tag changes."""
        self._n_written += 1
        data = json.dumps({**self._owner, "token": self._token, "written": self._n_written}).encode()
        self._tag = _put(self._path, data, Metadata={"token": self._token}, **condition)
        return self._tag is not None

    def keep(self) -> None:
        """Rewrite the lock every few seconds, in a thread, until it is released."""
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
        """Return the lock's tag if this process wrote it: the second of two identical requests finds the first's."""
        try:
            answer = _call(self._path, "head_object")
        except FileNotFoundError:
            return None
        return answer["ETag"] if answer["Metadata"].get("token") == self._token else None

    def require(self) -> None:
        """Rewrite the lock; raise RunError if another process has taken it over."""
        self._renew()
        if self._tag is None:
            raise RunError(
                f"{self._path} was taken over by another process, because this one did not renew it for {LEASE_S} s: "
                "nothing more is written here."
            )

    def release(self) -> None:
        """Release the lock, if this process still holds it."""
        with self._turn:
            self._ended.set()
            try:
                if self._tag is not None:
                    _call(self._path, "delete_object", IfMatch=self._tag)
            except Exception as error:
                log.warning("%s could not be released; it lapses by itself: %s", self._path, error)


_held: set[Lease] = set()


@contextmanager
def locked(lock_file: Path, what: str, owner: Mapping[str, Any], *, patience_s: float) -> Iterator[None]:
    """Hold a lease while the block runs; see `cxr.storage.files.locked`.

    It takes up to RENEWED_EVERY_S to find out that a holder is alive, and up to LEASE_S that it is dead.
    """
    lease = Lease(lock_file, owner)
    deadline = time.monotonic() + patience_s
    seen = set[str]()
    while not lease.take(seen):
        if len(seen) > 1 and time.monotonic() >= deadline:
            raise RunError.in_use(what, _holder(lock_file))
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
