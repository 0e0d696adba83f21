import hashlib
import importlib.metadata
import platform
from pathlib import Path

import cxr
from cxr.training.provenance import LIBRARIES, code_provenance

PACKAGE = Path(cxr.__file__).parent


def test_the_source_is_hashed_with_every_package_template_and_table() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    sources = sorted(name for name in names if name.endswith((".py", ".j2", ".toml")))
    assert {"training/run.py", "report/report.html.j2", "errors.py"} <= set(sources)
    content = hashlib.sha256()
    for path in sorted(PACKAGE / name for name in sources):
        content.update(path.read_bytes())
    assert code_provenance()["cxr_source_sha256"] == content.hexdigest()


def test_versions_and_the_lock_are_those_of_this_checkout() -> None:
    facts = code_provenance()
    lock = hashlib.sha256((PACKAGE.parent / "requirements.lock").read_bytes()).hexdigest()
    assert facts["requirements_lock_sha256"] == lock
    assert (facts["cxr"], facts["python"]) == (cxr.__version__, platform.python_version())
    assert all(facts[library] == importlib.metadata.version(library) for library in LIBRARIES)
