"""A double of the Hugging Face Hub on the loopback address: the part of its HTTP protocol that cxr makes use of.

Repositories, commits and large files are kept in memory. It checks what the Hub checks: the token, that a commit
follows the newest, that an uploaded file has its hash, and that a model card begins with metadata.
"""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_atokenofthetestsown"  # noqa: S105 the tests' own
Files = dict[str, bytes]


@dataclass
class Repository:
    """A model repository: the files of each commit, the newest last."""

    is_private: bool
    commits: dict[str, Files] = field(default_factory=dict)

    def commit(self, files: Files) -> str:
        digest = hashlib.sha1(f"{len(self.commits)}".encode(), usedforsecurity=False).hexdigest()
        self.commits[digest] = files
        return digest

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def at(self, revision: str) -> str | None:
        return self.head if revision == "main" else revision if revision in self.commits else None

    @property
    def files(self) -> Files:
        """The files of the newest commit."""
        return self.commits[self.head]


@dataclass
class HubDouble:
    """What the double holds, and what it is asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large_files: Files = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    held: threading.Event | None = None
    """If set, uploads of large files wait for this event."""


class RefusalError(Exception):
    """An answer with an error code, which the Hub names in a header."""

    def __init__(self, status: int, code: str = "") -> None:
        self.status, self.code = status, code


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubDouble
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        self.hub.requests.append(f"{self.command} {url.path}")
        try:
            self._route(parts, parse_qs(url.query), body)
        except RefusalError as refusal:
            self._send(refusal.status, b"{}", {"X-Error-Code": refusal.code, "X-Error-Message": refusal.code})

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 the server's names

    def _route(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        match [self.command, *parts]:
            case ["POST", "api", "validate-yaml"]:
                self._validate(json.loads(body)["content"])
            case ["POST", "api", "repos", "create"]:
                self._create(json.loads(body))
            case ["GET", "api", "models", owner, name, "revision", revision]:
                repository, commit = self._found(f"{owner}/{name}", revision)
                self._json({"id": f"{owner}/{name}", "sha": commit, "private": repository.is_private})
            case ["GET", "api", "models", owner, name]:
                repository, commit = self._found(f"{owner}/{name}", "main")
                self._json({"id": f"{owner}/{name}", "sha": commit, "private": repository.is_private})
            case ["GET", "api", "models", owner, name, "tree", revision, *folder]:
                self._list(f"{owner}/{name}", revision, "/".join(folder))
            case ["POST", "api", "models", owner, name, "preupload", revision]:
                self._found(f"{owner}/{name}", revision)
                self._json({"files": [_mode(file) for file in json.loads(body)["files"]]})
            case ["POST", owner, name, "info", "lfs", "objects", "batch"]:
                self._found(f"{owner}/{name.removesuffix('.git')}", "main")
                self._json({"transfer": "basic", "objects": [self._upload(o) for o in json.loads(body)["objects"]]})
            case ["PUT", "large", digest]:
                self._store(digest, body)
            case ["POST", "api", "models", owner, name, "commit", revision]:
                self._commit(f"{owner}/{name}", revision, [json.loads(line) for line in body.splitlines()])
            case ["GET" | "HEAD", owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise RefusalError(404, "UnknownRoute")

    def _found(self, name: str, revision: str) -> tuple[Repository, str]:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.is_private and not self._has_token()):
            raise RefusalError(404, "RepoNotFound")
        commit = repository.at(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound")
        return repository, commit

    def _has_token(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _validate(self, card: str) -> None:
        _, front, _ = card.split("---\n", 2)
        metadata = yaml.safe_load(front)
        assert {"license", "library_name", "pipeline_tag", "tags", "model-index"} <= set(metadata)
        self._json({"errors": [], "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if not self._has_token():
            raise RefusalError(401, "")
        if name in self.hub.repositories:
            raise RefusalError(409, "")
        self.hub.repositories[name] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
        self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _list(self, name: str, revision: str, folder: str) -> None:
        repository, commit = self._found(name, revision)
        below = {path: data for path, data in repository.commits[commit].items() if path.startswith(f"{folder}/")}
        if not below:
            raise RefusalError(404, "EntryNotFound")
        folders = {path.rpartition("/")[0] for path in below} - {folder}
        entries: list[dict[str, Any]] = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        entries += [
            {"type": "file", "path": path, "size": len(data), "oid": _oid(data)} for path, data in below.items()
        ]
        self._json(entries)

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = asked["oid"] in self.hub.large_files
        actions = {"upload": {"href": f"{self.hub.address}/large/{asked['oid']}", "header": {}}}
        return asked if known else asked | {"actions": actions}

    def _store(self, digest: str, body: bytes) -> None:
        if self.hub.held is not None:
            self.hub.held.wait(60)
        if hashlib.sha256(body).hexdigest() != digest:
            raise RefusalError(400, "")
        self.hub.large_files[digest] = body
        self._send(200, b"", {})

    def _commit(self, name: str, revision: str, lines: list[dict[str, Any]]) -> None:
        repository, commit = self._found(name, revision)
        if not self._has_token():
            raise RefusalError(403, "")
        files = dict(repository.commits[commit])
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", commit) != repository.head:
                raise RefusalError(412, "")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        made = repository.commit(files)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{made}", "commitOid": made})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository, commit = self._found(name, revision)
        data = repository.commits[commit].get(path)
        if data is None:
            raise RefusalError(404, "EntryNotFound")
        self._send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{_oid(data)}"'})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Keep the tests' output clean."""


def _oid(data: bytes) -> str:
    """Return the name that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _mode(asked: dict[str, Any]) -> dict[str, Any]:
    is_large = asked["path"].endswith((".safetensors", ".parquet", ".onnx"))
    return {"path": asked["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}


@contextmanager
def hub_double() -> Iterator[HubDouble]:
    """Yield a double that answers inside the block."""
    hub = HubDouble()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
