import hashlib
import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest

import cxr
from cxr.training.provenance import LIBRARIES, code_provenance, installed_distributions

PACKAGE = Path(cxr.__file__).parent


def test_the_source_is_hashed_with_every_package_template_and_table() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    sources = sorted(name for name in names if name.endswith((".py", ".j2", ".toml")))
    assert {"training/run.py", "report/run/report.html.j2", "errors.py"} <= set(sources)
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
    assert "distributions" not in facts, "the lock says it"


def test_without_a_lock_every_installed_distribution_is_listed_and_the_list_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cxr, "__file__", str(tmp_path / "cxr" / "__init__.py"))
    facts = code_provenance()
    assert facts["requirements_lock_sha256"] is None
    listed = dict(line.split("==") for line in facts["distributions"])
    assert {name: facts[name] for name in LIBRARIES}.items() <= listed.items()
    folders = [Path(entry) for entry in sys.path if Path(entry).is_dir()]
    on_disk = {file.parent.name for folder in folders for file in folder.glob("*.dist-info/METADATA")}
    assert len(on_disk) >= len(listed) > 100
    lines = "\n".join(facts["distributions"])
    assert facts["distributions_sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_of_two_distributions_with_a_name_the_one_that_is_imported_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, version in (("first", "2.0"), ("second", "1.0")):
        (tmp_path / folder / f"thing-{version}.dist-info").mkdir(parents=True)
        described = f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n"
        (tmp_path / folder / f"thing-{version}.dist-info" / "METADATA").write_text(described)
    (tmp_path / "first" / "cut_short-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert installed_distributions() == ["thing==2.0"]
