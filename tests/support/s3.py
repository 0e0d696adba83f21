"""A real S3 server, moto's, as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3fs import S3FileSystem

from tests.support.secrets import SECRET

SERVER = """
import threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_at_a_time(environ, start_response):  # S3 looks at If-Match and writes in one step; moto between two others
    with turn:
        return app(environ, start_response)

server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def s3_server(log_file: Path) -> Iterator[Any]:
    """Yield a client of a server with the bucket `bucket`, which this process and those that it starts use.

    Args:
        log_file: where the server writes a line for each request.
    """
    with log_file.open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    words = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(process.stdout.readline())}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in words.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
    S3FileSystem.clear_instance_cache()  # of this server; the next one has another address
    process.kill()
    process.wait()
    process.stdout.close()


def relative_files(folder: Path) -> set[str]:
    """What lies under the folder, but locks."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {file for file in found if ".lock" not in file}
