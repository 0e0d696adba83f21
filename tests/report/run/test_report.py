import hashlib
import os
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.report_numbers import disagreements
from cxr.cli.app import app
from cxr.config import TrainConfig
from cxr.dataset.known_patients import NOBODY
from cxr.errors import RunError
from cxr.evaluation import published
from cxr.evaluation.tables import write_tables
from cxr.report.run.gallery import N_SUSPECTS
from cxr.report.run.report import write_report
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.recipe_text import command_of
from cxr.training.run import Run, load_run
from flows.cli import app as cli
from tests.support.miniatures import drawn
from tests.support.runs import Finished, finish_run, small_config
from tests.support.shared import NewFolder

FIGURES = {
    "roc",
    "precision_recall",
    "confusion",
    "calibration",
    "scores",
    "folds",
    "subgroups",
    "training",
    "decision_curve",
    "acquisition",
}
MEASURES = {
    "aspect": "width over height",
    "dark_share": "black pixels",
    "bright_share": "saturated pixels",
    "mean": "mean grey level",
    "border": "mean grey level of the border",
}
"""What the page calls measures of images."""


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


@pytest.fixture(scope="module")
def run(finished: Finished, new_folder: NewFolder) -> Run:
    made = finished()
    copy = new_folder("report") / "experiments" / "first"
    shutil.copytree(made.folder.path, copy)
    write_report(load_run(RunFolder(copy)))
    return load_run(RunFolder(copy))


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run.folder.report.read_text())


def test_the_report_is_one_small_file_that_asks_for_nothing(run: Run, page: Page) -> None:
    assert run.folder.report.stat().st_size < 5e6
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    targets = page.values("src") + page.values("href") + page.values("xlink:href")
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    assert "default-src 'none'" in run.folder.report.read_text()


def test_every_link_and_reference_has_its_target_and_no_id_is_given_twice(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = {t[1:] for t in page.values("href") + page.values("xlink:href") if t.startswith("#")}
    described = {name for value in page.values("aria-labelledby") for name in value.split()}
    clipped = set(re.findall(r"url\(#([^)]+)\)", " ".join(page.values("clip-path"))))
    assert targets | described | clipped <= set(ids)


def test_every_figure_says_in_words_what_it_shows_and_lies_beside_its_numbers(run: Run, page: Page) -> None:
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == len(FIGURES)
    assert all(drawing["role"] == "img" for drawing in drawings)
    assert all(value for tag, attributes in page.tags if tag == "img" for value in [attributes["alt"]])
    for name in FIGURES:
        assert len(files.read_table(run.folder.figures / f"{name}.parquet"))
        assert "<desc" in (run.folder.figures / f"{name}.svg").read_text()


def test_the_summary_shows_the_tables_numbers(run: Run, page: Page) -> None:
    text = "".join(page.words).replace("\N{NO-BREAK SPACE}", " ")
    for row in pd.read_parquet(run.folder.summary).itertuples():
        if row.metric in ("roc_auc", "sensitivity", "specificity", "accuracy", "f1"):
            assert f"{100 * row.pooled:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]" in text, row.metric
            assert f"{100 * row.mean:.1f} [{100 * row.mean_ci_low:.1f}, {100 * row.mean_ci_high:.1f}]" in text, (
                row.metric
            )
    for row in files.read_table(run.folder.table("operating_points")).itertuples():
        assert row.value != row.value or f"{100 * row.value:.1f} [{100 * row.ci_low:.1f}, " in text
    assert "Not done" in text
    assert "Pooled [95%]" in text
    assert "\\x" not in text, "no character is shown as an escape"
    for row in files.read_table(run.folder.table("auc")).itertuples():
        assert f"{100 * row.value:.2f} [{100 * row.ci_low:.2f}, {100 * row.ci_high:.2f}]" in text


def words_of(folder: RunFolder) -> str:
    text = "".join(Page(folder.report.read_text()).words).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(text.split())


def test_the_first_screen_has_headline_figures_a_verdict_two_figures_and_then_the_flow(run: Run, page: Page) -> None:
    text = run.folder.report.read_text()
    in_order = [
        'class="cards"',
        'class="verdict',
        'id="figure-roc"',
        'id="figure-confusion"',
        'class="steps"',
        "<table>",
    ]
    places = [text.index(part) for part in in_order]
    assert places == sorted(places)
    words = words_of(run.folder)
    auc = files.read_table(run.folder.figures / "acquisition.parquet").set_index("model")["value"] * 100
    assert f"a regression reaches a ROC-AUC of {auc['acquisition']:.1f} [" in words
    assert f"networks minus acquisition: {auc['difference']:+.1f} [".replace("-", "−") in words
    assert "There is no held-out or external test set" in words
    assert "The data were not checked: see images and folds." in words
    assert "Published results" not in words, "these are not the images of the Kaggle set"
    assert page.words.count("Figure 1.") == 1


def test_the_confusion_matrix_and_the_headline_are_at_the_same_thresholds(run: Run) -> None:
    counts = files.read_table(run.folder.figures / "confusion.parquet").set_index(["label", "predicted"])["n"]
    points = files.read_table(run.folder.table("operating_points")).query("operating_point == 'youden'")
    rates = points.set_index("metric")["value"]
    n_sick = counts["PNEUMONIA"].sum()
    assert counts["PNEUMONIA", "PNEUMONIA"] / n_sick == pytest.approx(rates["sensitivity"])
    assert counts["NORMAL", "NORMAL"] / counts["NORMAL"].sum() == pytest.approx(rates["specificity"])


def test_published_results_stand_beside_a_run_on_the_images_of_the_kaggle_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.folder.path, tmp_path / "kaggle")
    copy = load_run(RunFolder(tmp_path / "kaggle"))
    names = sorted({"/".join(Path(path).parts[-3:]) for path in files.read_table(copy.folder.manifest)["path"]})
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    monkeypatch.setattr(published, "FILE_NAMES_SHA256", digest)
    write_report(copy)
    assert "Published results on this data set" in words_of(copy.folder)
    assert "Starting project" in words_of(copy.folder)
    assert disagreements(copy.folder.path)[1] == []


def test_failed_checks_and_a_held_out_test_set_that_is_not_opened_stand_in_the_verdict(
    run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.folder.path, tmp_path / "checked")
    copy = load_run(RunFolder(tmp_path / "checked"))
    row = {"table": "manifest", "severity": "warning", "passed": False, "sentence": "No image is blank <b>."}
    verified.write_table(copy.folder.expectations, pd.DataFrame([row]))
    certificate = files.read_json(copy.folder.certificate)
    verified.write_json(copy.folder.certificate, certificate | {"holdout": "test", "n_images_held_out": 9})
    write_report(copy)
    assert "warning: No image is blank <b>." in words_of(copy.folder)
    assert "The held-out test set was not opened" in words_of(copy.folder)
    assert "held out (test)" in words_of(copy.folder)
    assert "The 9 images of split test were held out" in words_of(copy.folder)


def test_of_a_run_without_a_lock_the_installed_distributions_are_counted_and_not_listed(
    run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.folder.path, tmp_path / "installed")
    copy = RunFolder(tmp_path / "installed")
    record = files.read_json(copy.config)
    unlocked = {"requirements_lock_sha256": None, "distributions": ["a==1", "b==2"], "distributions_sha256": "f" * 64}
    verified.write_json(copy.config, record | {"code": record["code"] | unlocked})
    write_report(load_run(copy))
    words = words_of(copy)
    assert "2, listed in config.json" in words
    assert "distributions, SHA-256" in words
    assert "requirements lock" not in words
    assert "a==1" not in words


def test_every_number_on_the_page_is_the_tables_and_another_one_is_found_out(run: Run, tmp_path: Path) -> None:
    n_compared, wrong = disagreements(run.folder.path)
    assert wrong == []
    assert n_compared > 500
    shutil.copytree(run.folder.path, tmp_path / "altered")
    report = tmp_path / "altered" / "report.html"
    text = report.read_text()
    auc = f"{100 * files.read_table(run.folder.summary).set_index('metric').loc['roc_auc', 'pooled']:.1f}"
    report.write_text(text.replace(f">{auc} [", ">99.9 [").replace("</h1>", "</h1><p>It finds 97.3%.</p>"))
    _, wrong = disagreements(tmp_path / "altered")
    assert any("99.9" in sentence for sentence in wrong)
    assert any("no source for 97.3" in sentence for sentence in wrong)


def test_wrongly_predicted_images_are_shown_with_where_the_network_looked(run: Run, page: Page) -> None:
    errors = files.read_table(run.folder.table("most_confident_errors"))
    assert len(errors), "a network of one epoch errs"
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    shown = [alt for alt in pictures if alt and not alt.startswith("Label suspect")]
    assert shown == [f"{kind} {path}" for path in errors["path"] for kind in ("Image", "HiResCAM of")]


def test_label_suspects_are_counted_and_the_first_are_shown(run: Run, page: Page) -> None:
    ranked = files.read_table(run.folder.table("label_suspects"))
    suspects = ranked[ranked["is_suspect"]]
    text = " ".join("".join(page.words).split())
    assert f"{len(suspects)} labels are suspects" in text
    errors = files.read_table(run.folder.table("most_confident_errors"))
    assert text.count("its label is a suspect") == errors["path"].isin(suspects["path"]).sum()
    pictures = [alt for alt in page.values("alt") if alt.startswith("Label suspect")]
    assert pictures == [f"Label suspect {path}" for path in suspects["path"].head(N_SUSPECTS)]


def test_names_from_the_data_cannot_become_markup(run: Run, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "named")
    shutil.copytree(run.folder.path, copy.path)
    predictions = files.read_table(copy.predictions)
    manifest = files.read_table(copy.manifest)
    for table, file in ((predictions, copy.predictions), (manifest, copy.manifest)):
        verified.write_table(file, table.assign(path="<script>alert(1)</script>" + table["path"]))
    begun = load_run(copy)
    write_tables(begun, files.read_table(copy.predictions))
    write_report(begun)
    text = copy.report.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_command_in_the_report_makes_the_same_config_again(run: Run) -> None:
    config = TrainConfig(
        data=run.config.data,
        weights="none",
        trainable="all",
        size=64,
        progressive=0.5,
        test_views="zoom",
        augment="none",
        learning_rate=2e-3,
        holdout="test",
    )
    command = command_of(config, "first")
    words = command.split()
    _, bound, _ = cli.parse_args(words[1:], print_error=False, exit_on_error=False)
    assert bound.arguments["config"] == TrainConfig(**(config.as_dict() | {"data": Path(config.data).name}))


def test_the_command_names_each_class_folder() -> None:
    config = TrainConfig(data="images", class_folder=("health", "sick", "no finding"))
    words = shlex.split(command_of(config, "first"))
    _, bound, _ = cli.parse_args(words[1:], print_error=False, exit_on_error=False)
    assert bound.arguments["config"].class_folder == ("health", "sick", "no finding")


def test_a_run_whose_patients_are_unknown_says_so_and_one_with_patients_says_where_from(
    run: Run, tmp_path: Path
) -> None:
    text = run.folder.report.read_text()
    assert "patient ids of" in text
    assert "come from file names. " in text
    assert NOBODY[1:] not in text
    names = [f"{label}/{label}{n}.png" for label in ("NORMAL", "PNEUMONIA") for n in range(12)]
    for name, data in drawn(names).items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(data)
    unknown = finish_run(tmp_path, "unknown", small_config(tmp_path / "images"))
    write_report(unknown)
    assert f"<b>N{NOBODY[1:]}.</b>" in unknown.folder.report.read_text()


def test_a_run_without_tables_has_no_report(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder.path, tmp_path / "bare")
    bare = RunFolder(tmp_path / "bare")
    load_run(bare).forget_fold(0)
    assert not bare.report.exists()
    assert not list(bare.figures.glob("*"))
    with pytest.raises(RunError, match="lacks fold 0"):
        write_report(load_run(bare))


def test_the_report_reads_the_tables_and_writes_none_of_them(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder.path, tmp_path / "checked")
    checked = RunFolder(tmp_path / "checked")
    summary = files.read_table(checked.summary)
    is_auc = summary["metric"] == "roc_auc"
    verified.write_table(checked.summary, summary.assign(pooled=summary["pooled"].mask(is_auc, 0.12345)))
    before = {path: path.stat().st_mtime_ns for path in checked.metrics.parent.iterdir()}
    write_report(load_run(checked))
    assert {path: path.stat().st_mtime_ns for path in checked.metrics.parent.iterdir()} == before
    assert "12.3" in "".join(Page(checked.report.read_text()).words), "what the table says is what the page shows"


def test_a_missing_table_is_named_with_the_command_that_writes_it(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder.path, tmp_path / "older")
    older = RunFolder(tmp_path / "older")
    verified.remove(older.table("auc"), older.table("drift_reference"))
    with pytest.raises(RunError, match="lacks the tables auc, drift_reference: type `cxr evaluate older`"):
        write_report(load_run(older))


def test_three_classes_have_a_report_that_says_what_does_not_apply(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished(label_from="subtype").folder.path, tmp_path / "three")
    app(["report", "three", "--experiments", str(tmp_path)])
    text = (tmp_path / "three" / "report.html").read_text()
    assert "Not applicable: operating points are defined for two classes; this run has 3." in text
    assert "Labels are the subtypes in file names; nobody" in text
    assert "correct the labels that are\nwrong by renaming their files" in text
    assert "distinguishes NORMAL, bacteria and virus." in text
    assert disagreements(tmp_path / "three")[1] == []


def test_a_run_of_clusters_shows_each_the_worst_and_what_sets_them_apart(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished(leave_out="cluster").folder.path, tmp_path / "clusters")
    begun = load_run(RunFolder(tmp_path / "clusters"))
    write_report(begun)
    text = " ".join("".join(Page(begun.folder.report.read_text()).words).split())
    assert disagreements(begun.folder.path)[1] == []
    table = files.read_table(begun.folder.table("cluster_metrics"))
    for row in table[table["metric"] == "roc_auc"].itertuples():
        assert f"{100 * row.value:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]" in text
    worst = (
        table[(table["operating_point"] == "half") & (table["metric"] == "specificity")].nsmallest(1, "value").iloc[0]
    )
    assert f"{100 * worst['value']:.1f} [{100 * worst['ci_low']:.1f}, {100 * worst['ci_high']:.1f}]cluster" in text
    first = files.read_table(begun.folder.table("clusters")).query("rank == 1")
    assert all(MEASURES.get(measure, measure.replace("_", " ")) in text for measure in first["measure"])
    assert "dark share" not in text
    assert "Each fold left out a cluster of images acquired alike" in text
    assert "--leave-out cluster" in command_of(begun.config, "clusters")
    assert files.read_json(begun.folder.certificate)["leave_out"] == "cluster"


def test_a_run_of_patients_says_that_clusters_were_not_left_out(run: Run, page: Page) -> None:
    assert "each fold left out patients at random" in " ".join(page.words)
    assert not verified.exists(run.folder.table("clusters"))


def in_twenty_folds(folder: RunFolder, images: pd.DataFrame) -> pd.DataFrame:
    """Make a run of two folds one of twenty, whatever their networks, and spread its patients over them."""
    record, certificate = files.read_record(folder.config), files.read_json(folder.certificate)
    run = load_run(folder)
    many = replace(run, config=replace(run.config, folds=20), identity=run.identity | {"folds": 20})
    verified.write_json(folder.config, record | many.to_record())
    verified.write_json(
        folder.certificate, certificate | {"folds": [certificate["folds"][0] | {"fold": k} for k in range(20)]}
    )
    done = files.read_json(folder.fold(0).complete)
    for fold in range(20):
        if fold >= run.config.folds:
            shutil.copytree(folder.fold(0).path, folder.fold(fold).path, copy_function=os.link)
        verified.write_json(folder.fold(fold).complete, done | {"fold": fold, "config_hash": many.config_hash})
    return images.assign(fold=images["group_id"].factorize()[0] % 20)


HARD = {
    "a class missing in a fold": (
        lambda _, images: images.query("fold != 1 or label == 'NORMAL'"),
        "PNEUMONIA, fold 1: balanced accuracy, sensitivity, ROC-AUC, average precision: no image of the class.",
    ),
    "one patient": (
        lambda _, images: images.assign(group_id="one"),
        "all images: accuracy, balanced accuracy, precision, sensitivity, specificity, F1, ROC-AUC, average precision: "
        "no interval, because all images are of one patient.",
    ),
    "ties everywhere": (
        lambda _, images: images.assign(
            logit_NORMAL=1.0, logit_PNEUMONIA=0.0, probability_NORMAL=0.73, probability_PNEUMONIA=0.27
        ),
        "PNEUMONIA, all images: precision: no image predicted as the class.",
    ),
    "probabilities of 0 and 1": (
        lambda _, images: images.assign(
            logit_NORMAL=0.0,
            logit_PNEUMONIA=1e5 * (images["label"] == "PNEUMONIA") - 5e4,
            probability_PNEUMONIA=(images["label"] == "PNEUMONIA").astype(float),
            probability_NORMAL=(images["label"] == "NORMAL").astype(float),
        ),
        "No label is a suspect.",
    ),
    "twenty folds": (in_twenty_folds, "no image of another class"),
}


@pytest.mark.parametrize("change", HARD)
def test_hard_tables_become_a_report_that_says_what_is_undefined_and_why(run: Run, tmp_path: Path, change: str) -> None:
    folder = RunFolder(tmp_path / "hard")
    shutil.copytree(run.folder.path, folder.path)
    make, sentence = HARD[change]
    verified.write_table(folder.predictions, make(folder, files.read_table(folder.predictions)))
    record = files.read_record(folder.config)
    verified.write_json(folder.config, record | {"config": record["config"] | {"data": str(tmp_path)}})
    hard = load_run(folder)
    write_tables(hard, files.read_table(folder.predictions))
    write_report(hard)
    page = Page(folder.report.read_text())
    text = " ".join("".join(page.words).split())
    assert sentence in text
    assert disagreements(folder.path)[1] == []
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text)
