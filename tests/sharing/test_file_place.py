"""Pushing to a bucket and pulling from it, at a real S3 server, moto's."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cxr.errors import ConfigError, PackageError
from cxr.serving.package import load_package
from cxr.sharing.place import open_place
from cxr.sharing.pull import pull
from cxr.sharing.push import push
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.packages import light_package
from tests.support.processes import wait_for
from tests.support.secrets import assert_no_secret

pytestmark = pytest.mark.faults
PLACE = "s3://bucket/models"


@pytest.fixture(autouse=True)
def empty_bucket(s3: Any) -> None:
    for found in s3.list_objects_v2(Bucket="bucket").get("Contents", []):
        s3.delete_object(Bucket="bucket", Key=found["Key"])


def keys(s3: Any) -> dict[str, int]:
    return {found["Key"]: found["Size"] for found in s3.list_objects_v2(Bucket="bucket").get("Contents", [])}


def push_to(address: str, folder: PackageFolder) -> bool:
    return push(load_package(folder), open_place(address, "DESTINATION"))


def pull_from(address: str, model: ModelFolder) -> PackageFolder:
    return pull(open_place(address, "SOURCE"), model, None)


def test_a_package_goes_to_a_bucket_and_comes_back_to_the_byte(
    s3: Any, light: PackageFolder, here: ModelFolder, tmp_path: Path
) -> None:
    assert push_to(PLACE, light)
    assert keys(s3) == {f"models/tiny/1/{path.name}": path.stat().st_size for path in light.path.iterdir()}
    assert not push_to(PLACE, light)
    pulled = load_package(pull_from(PLACE, here))
    assert pulled.folder.images.read_bytes() == light.images.read_bytes()
    other = light_package(light, tmp_path / "others", operating_point="balanced")
    with pytest.raises(PackageError, match=r"'s3://bucket/models' has another package as version 1 of 'tiny'"):
        push_to(PLACE, other)
    assert_no_secret(here.path)


def test_what_is_damaged_or_strange_in_a_bucket_is_refused(s3: Any, light: PackageFolder, here: ModelFolder) -> None:
    push_to(PLACE, light)
    s3.put_object(Bucket="bucket", Key="models/tiny/1/images.parquet", Body=b"other")
    with pytest.raises(PackageError, match=r"'images.parquet' was changed\. Nothing was taken up"):
        pull_from(PLACE, here)
    s3.put_object(Bucket="bucket", Key="models/tiny/1/more/model.py", Body=b"print()")
    with pytest.raises(PackageError, match="'more' is no file that a package holds"):
        pull_from(PLACE, here)
    assert not here.path.exists()


def test_a_bucket_that_is_not_there_is_a_sentence(s3: Any, here: ModelFolder) -> None:
    with pytest.raises(ConfigError, match="the bucket 'nowhere' cannot be reached"):
        pull_from("s3://nowhere/models", here)


def test_a_push_to_a_bucket_that_is_killed_leaves_nothing_that_a_pull_accepts(
    s3: Any, light: PackageFolder, here: ModelFolder
) -> None:
    words = ["push", "tiny/1", PLACE, f"--models={light.path.parents[1]}"]
    command = [sys.executable, "-m", "cxr", "package", *words]
    code = (
        "import sys, time; from cxr.sharing import file_place; copy = file_place._copy\n"
        "file_place._copy = lambda *paths: (copy(*paths), time.sleep(0.5))\n"
        "from cxr.cli.main import run_core; run_core()"
    )
    slowly = subprocess.Popen([sys.executable, "-c", code, "package", *words], stderr=subprocess.DEVNULL)
    wait_for(lambda: any(key.startswith("models/tiny/1/fold") for key in keys(s3)), "the second file", timeout_s=60)
    slowly.kill()
    slowly.wait()
    assert "models/tiny/1/SHA256SUMS" not in keys(s3)
    with pytest.raises(PackageError, match="no package of 'tiny'"):
        pull_from(PLACE, here)
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    assert time.monotonic() - begun < 60, "the lease of the killed push lapses"
    assert load_package(pull_from(PLACE, here)).version == "1"
    assert [key for key in keys(s3) if ".locks" in key] == []
