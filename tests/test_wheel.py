"""The wheel: what it holds, and that it works outside the checkout with nothing else of the project at hand."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import cxr
from cxr import application
from cxr.images.synthetic import draw_examples
from cxr.training.provenance import code_provenance
from tests.support.processes import BIN, PROJECT
from tests.support.shared import NewFolder
from tests.support.wheel import build_wheel

CORE = {"sample", "train", "train-fold", "evaluate", "report", "package", "promote", "models", "explain", "release"}
APPLICATION = {"validate", "score", "up", "deploy", "app", "demo"}
PACKAGES = ("app", "data_checks", "deployments", "flows", "tasks")


@pytest.fixture(scope="module")
def wheel(new_folder: NewFolder) -> Path:
    """The wheel, built from the checkout."""
    return build_wheel(new_folder("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, new_folder: NewFolder) -> Path:
    """An environment with the wheel and the libraries that it needs, which knows nothing of the checkout."""
    folder = new_folder("bare")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    zipfile.ZipFile(wheel).extractall(site)
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # .pth files in there do not count
    return python


def run(python: Path, *words: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": path} if path else {}
    return subprocess.run(
        [str(python), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def script(*words: str) -> str:
    """What the script `cxr` of an installation does, as Python's argument."""
    return f"import sys; sys.argv = ['cxr', *{words}]; from cxr.cli.main import main; main()"


def verbs(help_text: str) -> set[str]:
    return {line.strip("│ ").partition(" ")[0] for line in help_text.splitlines() if line.startswith("│")}


def sources(package: str) -> set[str]:
    """The code, templates and tables of a package in the checkout."""
    files = [path for path in (PROJECT / package).rglob("*") if path.suffix in (".py", ".j2", ".toml", ".typed")]
    return {path.relative_to(PROJECT).as_posix() for path in files}


def test_it_holds_cxr_alone_and_within_it_the_application(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"cxr", f"cxr-{cxr.__version__}.dist-info"}
    carried = {"prefect.yaml"}.union(*(sources(package) for package in PACKAGES))
    expected = sources("cxr") | {f"cxr/{application.CARRIED}/{name}" for name in carried}
    assert expected == {name for name in names if name.startswith("cxr/")}


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "metrics/delong.py",
        "export/model_card.md.j2",
        "report/page.html.j2",
        "report/run/checklists.toml",
    ],
)
def test_the_provenance_of_a_run_notices_a_changed_byte_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_provenance()
    assert before["requirements_lock_sha256"] is not None
    copy = tmp_path / "cxr"
    shutil.copytree(PROJECT / "cxr", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cxr, "__file__", str(copy / "__init__.py"))
    assert code_provenance()["cxr_source_sha256"] == before["cxr_source_sha256"]
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1] + b"#")
    assert code_provenance()["cxr_source_sha256"] != before["cxr_source_sha256"]


def test_the_checkout_is_out_of_reach(python: Path, tmp_path: Path) -> None:
    code = "import cxr, importlib.util as u; print(cxr.__file__, *(u.find_spec(n) for n in ('flows', 'tasks', 'app')))"
    words = run(python, "-c", code, cwd=tmp_path).stdout.split()
    assert Path(words[0]).is_relative_to(python.parents[1])
    assert words[1:] == ["None"] * 3


def test_its_source_has_the_hash_of_the_checkouts_and_its_libraries_are_listed(python: Path, tmp_path: Path) -> None:
    code = "import json; from cxr.training.provenance import code_provenance; print(json.dumps(code_provenance()))"
    facts = json.loads(run(python, "-c", code, cwd=tmp_path).stdout)
    assert facts["cxr_source_sha256"] == code_provenance()["cxr_source_sha256"]
    assert facts["requirements_lock_sha256"] is None
    assert {f"cxr=={cxr.__version__}", f"torch=={facts['torch']}"} <= set(facts["distributions"])


def test_cxr_has_every_verb_and_the_module_those_of_the_core(python: Path, tmp_path: Path) -> None:
    as_module = run(python, "-m", "cxr", "--help", cwd=tmp_path)
    assert as_module.returncode == 0, as_module.stderr
    assert verbs(as_module.stdout) >= CORE
    assert not verbs(as_module.stdout) & APPLICATION
    as_script = run(python, "-c", script("--help"), cwd=tmp_path)
    assert as_script.returncode == 0, as_script.stderr
    assert verbs(as_script.stdout) >= CORE | APPLICATION
    assert run(python, "-m", "cxr", "--version", cwd=tmp_path).stdout.strip() == cxr.__version__


def test_its_verbs_work(python: Path, home: Path, tmp_path: Path) -> None:
    drawn = run(python, "-m", "cxr", "sample", "images", "--images", "40", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert len(list((tmp_path / "images").rglob("*.jpeg"))) == 40
    written = run(python, "-m", "cxr", "report", "run", f"--experiments={copy_of_run(home, tmp_path)}", cwd=tmp_path)
    assert written.returncode == 0, written.stderr  # with templates and checklists
    assert (tmp_path / "experiments" / "run" / "report.html").exists()


def copy_of_run(home: Path, place: Path) -> Path:
    """Return a folder of runs that holds a copy of the finished run, whose weights are links."""
    source, target = home / "experiments" / "run", place / "experiments" / "run"
    for file in source.rglob("*"):
        if file.is_file() and not file.name.startswith("report"):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / file.relative_to(source)).hardlink_to(file)
    return target.parent


def test_the_library_predicts_as_in_the_checkout(python: Path, home: Path, tmp_path: Path) -> None:
    paths = []
    for number, data in enumerate(draw_examples().values()):
        paths.append(str(tmp_path / f"{number}.jpeg"))
        Path(paths[-1]).write_bytes(data)
    code = (
        "import sys, cxr\n"
        "predictor = cxr.Predictor(cxr.load_champion(sys.argv[1], 'tiny'), device='cpu', cache=sys.argv[2])\n"
        "predictor.predict_files(sys.argv[3:]).to_parquet('table.parquet')"
    )
    result = run(python, "-c", code, str(home / "models"), str(home / "cache"), *paths, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    package = cxr.load_champion(home / "models", "tiny")
    expected = cxr.Predictor(package, device="cpu", cache=home / "cache").predict_files(paths)
    table = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(table.drop(columns="scored_at"), expected.drop(columns="scored_at"), rtol=1e-5)
    assert set(table["status"]) == {"ok"}


@pytest.fixture
def strangers(tmp_path: Path) -> str:
    """A folder with packages of the project's names that are somebody else's, ahead on the path."""
    for name in PACKAGES:
        (tmp_path / "strangers" / name).mkdir(parents=True)
        (tmp_path / "strangers" / name / "__init__.py").write_text("raise ImportError('somebody else\\'s')")
    return os.pathsep.join([str(tmp_path / "strangers"), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_in_the_checkout_packages_of_the_same_names_do_no_harm(strangers: str, tmp_path: Path) -> None:
    script = str(BIN / "cxr")
    result = run(Path(sys.executable), script, "--help", cwd=tmp_path, path=strangers)
    assert result.returncode == 0, result.stderr
    assert verbs(result.stdout) >= CORE | APPLICATION
    refused = run(Path(sys.executable), script, "score", "nowhere", "--name=none", cwd=tmp_path, path=strangers)
    assert refused.returncode == 2, refused.stderr
    assert "somebody else" not in refused.stderr


def test_the_page_of_the_checkout_is_found_before_a_package_of_its_name(strangers: str, tmp_path: Path) -> None:
    page = str(PROJECT / "app" / "main.py")
    code = (
        "from streamlit.testing.v1 import AppTest\n"
        f"print([error.value for error in AppTest.from_file({page!r}, default_timeout=100).run().exception])"
    )
    result = run(BIN / "python", "-c", code, cwd=tmp_path, path=strangers)
    assert result.stdout == "[]\n", result.stderr


def test_installed_beside_packages_of_the_same_names_it_ignores_them(
    python: Path, strangers: str, tmp_path: Path
) -> None:
    path = strangers.partition(os.pathsep)[0]  # which knows nothing of the checkout
    for place in (tmp_path, tmp_path / "strangers"):
        refused = run(python, "-c", script("score", "nowhere", "--name=none"), cwd=place, path=path)
        assert refused.returncode == 2, refused.stderr
        assert "has no champion" in refused.stderr
