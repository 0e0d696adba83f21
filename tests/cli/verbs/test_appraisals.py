import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from cxr.cli import terminal
from cxr.cli.main import app
from cxr.storage import verified
from cxr.storage.appraisal_folder import AppraisalFolder
from tests.support.processes import PROJECT
from tests.support.tables_of_others import AUC, AUTOGLUON, RATE, TIMM, lightning, of_findings, scikit_learn

PAGE = PROJECT / "docs" / "how-to" / "appraise-predictions.md"


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        terminal.run_command(partial(app, words))
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what other programs write, named as in the guide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "timm.csv").write_text(TIMM)
    (tmp_path / "autogluon.csv").write_text(AUTOGLUON)
    lightning().to_parquet(tmp_path / "lightning.parquet", index=False)
    scikit_learn().to_csv(tmp_path / "scikit-learn.csv", index=False)
    of_findings().to_csv(tmp_path / "findings.csv", index=False)
    return tmp_path


def commands() -> list[list[str]]:
    """The words of each command of the guide that reads a table of another program."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line)[1:] for line in lines if re.match(r"cxr appraise (timm|autogluon|lightning|scikit)", line)
    ]


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[1])
def test_the_commands_of_the_guide_appraise_what_other_programs_write(
    words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(words, capsys)
    assert code == 0, err
    (folder,) = [AppraisalFolder(path) for path in (place / "appraisals").iterdir() if path.name != ".locks"]
    values = verified.read_table(folder.table("summary")).set_index("metric")["pooled"]
    assert values["roc_auc"] == AUC
    assert (values["accuracy"], values["sensitivity"], values["specificity"]) == (RATE, RATE, RATE)
    assert f"report   {folder.report.relative_to(place)}" in out
    assert folder.report.exists()


def test_the_guide_has_a_command_for_each_program() -> None:
    assert {words[1] for words in commands()} == {
        "timm.csv",
        "autogluon.csv",
        "lightning.parquet",
        "scikit-learn.csv",
    }


def test_the_command_of_the_guide_for_several_findings_has_a_line_and_a_page_for_each(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (words,) = re.findall(r"^cxr (appraise findings.csv .*)$", PAGE.read_text(), re.MULTILINE)
    code, out, err = ended(shlex.split(words), capsys)
    assert code == 0, err
    folder = AppraisalFolder(place / "appraisals" / "findings")
    values = verified.read_table(folder.table("summary")).set_index(["class", "metric"])["pooled"]
    assert values["Effusion", "roc_auc"] == AUC
    assert values["Mass", "roc_auc"] == 1
    assert values["macro", "roc_auc"] == (AUC + 1) / 2
    assert "macro ROC-AUC" in out
    assert [path.name for path in sorted(place.glob("appraisals/findings/report*.html"))] == [
        "report-1-Effusion.html",
        "report-2-Mass.html",
        "report.html",
    ]
    code, out, err = ended(["appraise", "findings.csv", "--label-columns=Effusion,Mass", "--name=other"], capsys)
    assert (code, out) == (2, "")
    assert err == "error: column 'Mass' is blank in 1 of 8 rows: say what that means with --blank negative or mask.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give --label-column, --label-columns, --label-pattern, or --labels FILE"),
        (["--label-pattern=([^/]+)/[^/]+$"], "give --probability-column or --logit-column CLASS=COLUMN for each class"),
        (["--label-pattern=("], "--label-pattern '(' is not a regular expression"),
        (["--name=../up"], "--name must be letters, digits"),
        (["--appraisals=s3://bucket/appraisals"], "--appraisals needs a folder of files"),
        (["--path-column=filenam"], "column 'filenam' is not in timm.csv; nearest: 'filename'"),
    ],
)
def test_a_mistake_is_one_sentence_with_code_2_and_writes_nothing(
    words: list[str], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    code, out, err = ended(["appraise", "timm.csv", *words], capsys)
    assert (code, out) == (2, ""), err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert sorted(place.rglob("*")) == before


def test_the_same_table_is_appraised_again_and_another_one_is_refused_its_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["appraise", "scikit-learn.csv", "--name=mine"]
    assert [ended(words, capsys)[0] for _ in range(2)] == [0, 0]
    pd.read_csv("scikit-learn.csv").iloc[::-1].to_csv("scikit-learn.csv", index=False)
    code, _, err = ended(words, capsys)
    assert code == 2
    assert "give another --name, or delete its folder" in err


def test_a_changed_file_of_an_appraisal_is_named_with_the_way_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        ended(["appraise", "scikit-learn.csv", f"--name={name}"], capsys)
    table = place / "appraisals" / "two" / "metrics" / "predictions.parquet"
    table.write_bytes(table.read_bytes() + b"x")
    code, _, err = ended(["compare", "one", "two"], capsys)
    assert code == 2
    assert "was changed since cxr wrote it: put back a copy, or delete the folder of the appraisal" in err


def test_a_table_that_nobody_has_appraised_is_not_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ended(["compare", "scikit-learn.csv", "timm.csv"], capsys)
    assert code == 2
    assert "'scikit-learn.csv' is a file: type `cxr appraise` with it" in err
