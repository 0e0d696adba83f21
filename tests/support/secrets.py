"""Secrets in the environment, which must not reach any file."""

import base64
from pathlib import Path

SECRET = "a-word-that-nobody-writes"  # noqa: S105 the tests' own
SECRETS = {
    "PREFECT_API_AUTH_STRING": f"cxr:{SECRET}",
    "PREFECT_SERVER_API_AUTH_STRING": f"cxr:{SECRET}",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://cxr:{SECRET}@127.0.0.1/prefect",
    "CXR_DATABASE_PASSWORD": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
}


def assert_no_secret(folder: Path) -> None:
    """Assert that no file under `folder` holds a secret, plain or as HTTP sends a password."""
    forms = [SECRET.encode(), base64.b64encode(f"cxr:{SECRET}".encode())]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if any(form in path.read_bytes() for form in forms)] == []
