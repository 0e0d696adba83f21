"""The report of a run: one HTML file that needs no network, and its figures and tables as files beside it.

The tables are read as they were evaluated and checked; only those behind the figures are computed here. Every number on
the page names the table that it comes from. An analysis that was not done is reported as not done.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr import __version__
from cxr.classes import Classes, Findings
from cxr.config import TrainConfig
from cxr.evaluation.acquisition_baseline import compare_with_networks
from cxr.evaluation.findings import FindingsOutOfFold, tables_of
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.outside.comparison import outside_tests
from cxr.evaluation.overview import STARTING_PROJECT
from cxr.evaluation.published import PUBLISHED, is_kaggle
from cxr.evaluation.tables import read_tables
from cxr.metrics.classification import COUNTS
from cxr.network.heat_map import map_method
from cxr.report import figures
from cxr.report.cells import Cells
from cxr.report.drawing import Figure
from cxr.report.markup import render
from cxr.report.results import FOLD_METRICS, Tables, figures_of, headline_point, undefined, write_figure
from cxr.report.run.cautions import cautions_of, drops, failed
from cxr.report.run.findings_overview import overview_page
from cxr.report.run.flow import image_flow
from cxr.report.run.gallery import gallery, suspects
from cxr.report.run.guidelines import NOT_APPLICABLE, NOT_DONE, crosswalk
from cxr.report.run.outside import openings
from cxr.storage import events, files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.recipe_text import command_of, recipe_sentences
from cxr.training.run import Run, require_complete
from cxr.wording import DISCLAIMER, display_name

log = logging.getLogger(__name__)

REQUESTED = {"stress": "robustness", "learning_curve": "learning-curve"}
"""Tables that a run has only on request, and the sections of the report that show them."""

WORDS: dict[str, Any] = {
    "has_package": True,
    "has_folds": True,
    "unit": "patients",
    "part": "fold",
    "subject": "this run",
    "model": "these networks",
    "counts": COUNTS,
    "not_done": NOT_DONE,
    "not_applicable": NOT_APPLICABLE,
    "display_name": display_name,
    "disclaimer": DISCLAIMER,
}
"""Facts that the templates of a run need; an appraisal shares the templates and passes its own."""


def write_report(run: Run) -> Path:
    """Write the run's report and its figures from the tables that `evaluate` wrote; return the report.

    With several findings per image there is a page for each, and the report is the overview that leads to them.

    Raises:
        RunError: a fold is not complete, or the run lacks a table.
    """
    with events.stage(run.folder.events, "report"):
        require_complete(run)
        folder = run.folder
        tables = read_tables(run)
        requested = [name for name in (*REQUESTED, "int8") if verified.exists(folder.table(name))]
        tables |= {name: verified.read_table(folder.table(name)) for name in requested}
        predictions = verified.read_table(folder.predictions)
        tests = outside_tests(folder)
        gaps = {f"{name}/gap": verified.read_table(test.gap) for name, test in tests.items()}
        tables |= {f"{name}/referral": verified.read_table(test.referral) for name, test in tests.items()}
        if isinstance(run.outputs, Findings):
            training = _training(run)
            pages = {name: folder.report_of(k, name) for k, name in enumerate(run.outputs, 1)}
            for part, subject in _each_finding(FindingsOutOfFold(predictions, run.outputs), pages):
                own, gaps_of = (tables_of(each, subject.finding) for each in (tables, gaps))
                _write_page(run, part, own, gaps_of, pages[subject.finding], subject)
            acquisition = {name: folder.figures / f"finding-{k}-acquisition.parquet" for k, name in enumerate(pages, 1)}
            page = overview_page(run, tables, pages, acquisition, training)
            write_figure(folder.figures, training)
            verified.write_text(folder.report, page)
        else:
            images = OutOfFold(predictions, run.outputs)
            _write_page(run, images, tables, gaps, folder.report, _Subject(_columns(run.outputs)))
        log.info("report: %s", folder.report)
        return folder.report


@dataclass(frozen=True)
class _Subject:
    """What a page is about: the classes of a run, or one of its findings."""

    columns: Mapping[str, int]
    """The network's output that shows where it looked for each class."""
    finding: str = ""
    """Empty for classes."""
    prefix: str = ""
    """Of the names of its figures."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """The pages of all findings, by finding."""


def _columns(classes: Classes) -> dict[str, int]:
    return {name: k for k, name in enumerate(classes)}


def _each_finding(images: FindingsOutOfFold, pages: Mapping[str, Path]) -> Iterator[tuple[OutOfFold, _Subject]]:
    """Yield the predictions of each finding, and what its page is about."""
    names = {name: path.name for name, path in pages.items()}
    for k, (name, part) in enumerate(images.by_finding.items()):
        yield part, _Subject(dict.fromkeys(part.classes, k), name, f"finding-{k + 1}-", names)


def _write_page(run: Run, images: OutOfFold, tables: Tables, gaps: Tables, path: Path, subject: _Subject) -> None:
    """Write a page and its figures, once all that they show has been read."""
    drawn = {
        name: replace(figure, name=subject.prefix + name) for name, figure in _figures(run, images, tables).items()
    }
    if not subject.finding:
        drawn["training"] = _training(run)
    flow = run.folder.figures / f"{subject.prefix}images.parquet"
    verified.write_table(flow, image_flow(verified.read_table(run.folder.manifest), run.config.holdout, images))
    page = _page(run, images, tables, gaps, drawn, subject)
    for figure in drawn.values():
        write_figure(run.folder.figures, figure)
    verified.write_text(path, page)


def _page(
    run: Run, images: OutOfFold, tables: Tables, gaps: Tables, drawn: Mapping[str, Figure], subject: _Subject
) -> str:
    folder = run.folder
    facts = {file.name: verified.read_json(file) for file in (folder.config, folder.data, folder.certificate)}
    opened = {name: openings(run, test, images.classes) for name, test in outside_tests(folder).items()}
    sources = _sources(folder, tables, gaps, subject, drawn["acquisition"])
    return render(
        Path(__file__).with_name("report.html.j2"),
        run=run,
        finding=subject.finding,
        pages=subject.pages,
        cells=Cells(sources, facts, {"class": subject.finding} if subject.finding else {}),
        certificate=facts["leakage_certificate.json"],
        figures=drawn,
        count=itertools.count(1).__next__,
        tests=opened,
        crosswalk=crosswalk(_done(tables, opened)),
        **_verdict(folder, facts["leakage_certificate.json"], drawn["acquisition"].table, opened, gaps),
        **_results(run, images, tables, subject),
        **_published(run, images, subject),
        **_provenance(run, facts["config.json"]),
        **WORDS,
        headline_point=headline_point(drawn),
    )


def _done(tables: Tables, tests: Mapping[str, object]) -> set[str]:
    """Return the sections of what a run has on request alone, and has."""
    done = {section for table, section in REQUESTED.items() if table in tables}
    return done | {"held-out-test" if name == "held_out_test" else "external" for name in tests}


def _results(run: Run, images: OutOfFold, tables: Tables, subject: _Subject) -> dict[str, Any]:
    """Return what the page shows of the predictions besides numbers."""
    ranked = tables["label_suspects"]
    return {
        "classes": images.classes,
        "positive": images.classes.headline,
        "labels": _labels(run.config),
        "has_int8": "int8" in tables,
        "undefined": undefined(tables),
        "most_confident_errors": gallery(run, tables["most_confident_errors"], subject.columns),
        "map_method": map_method(run.config.size),
        "suspects": suspects(run, ranked),
        "suspect_paths": set(ranked.loc[ranked["is_suspect"], "path"]),
    }


def _labels(config: TrainConfig) -> dict[str, str]:
    """Return what the labels are, and where a wrong one is corrected."""
    if config.reads_tables:
        return {"are": "what tables or paths say", "corrected_in": "in the tables"}
    if config.label_from == "subtype":
        return {"are": "the subtypes in file names", "corrected_in": "by renaming their files"}
    return {"are": "the names of folders", "corrected_in": "by moving their files to the right folder"}


def _published(run: Run, images: OutOfFold, subject: _Subject) -> dict[str, Any]:
    """Return the published results that stand beside those of a run on the Kaggle set."""
    of_classes = images.is_binary and not subject.finding
    on_kaggle = of_classes and is_kaggle(verified.read_table(run.folder.manifest)["path"])
    return {"starting": STARTING_PROJECT if on_kaggle else {}, "published": PUBLISHED if on_kaggle else ()}


def _provenance(run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the run was made."""
    return {
        "record": record,
        "is_checked": verified.exists(run.folder.checks_report),
        "made_at": files.now(),
        "version": __version__,
        "command": command_of(run.config, run.folder.run_id),
        "recipe": recipe_sentences(run.config),
    }


def _verdict(
    folder: RunFolder,
    certificate: Mapping[str, Any],
    comparison: pd.DataFrame,
    tests: Mapping[str, Mapping[str, Any]],
    gaps: Tables,
) -> dict[str, Any]:
    """Return what the verdict on the first screen is made of."""
    expectations = failed(verified.read_table(folder.expectations)) if verified.exists(folder.expectations) else None
    return {
        "cautions": cautions_of(comparison, certificate, tests, gaps, expectations),
        "comparison_is_defined": bool(comparison["value"].notna().all()),
        "drops": {name.removesuffix("/gap"): drops(gap) for name, gap in gaps.items()},
        "failed_checks": [] if expectations is None else expectations.to_dict("records"),
    }


def _sources(
    folder: RunFolder, tables: Tables, gaps: Tables, subject: _Subject, acquisition: Figure
) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return the tables that the page takes numbers from, each with its file."""
    named = {name: (folder.table(name), table) for name, table in tables.items() if "/" not in name}
    named |= {name: (folder.path / f"{name}.parquet", table) for name, table in tables.items() if "/" in name}
    flow = folder.figures / f"{subject.prefix}images.parquet"
    named["images"] = (flow, verified.read_table(flow))
    named["acquisition_comparison"] = (folder.figures / f"{acquisition.name}.parquet", acquisition.table)
    if verified.exists(folder.acquisition_baseline):
        known = verified.read_table(folder.acquisition_baseline)
        known = known[known["class"] == subject.finding] if subject.finding else known
        named["acquisition_baseline"] = (
            folder.acquisition_baseline,
            known.reindex(columns=[*known.columns.union(["mean", "sd"])]),
        )
    named |= {name: (folder.path / f"{name}.parquet", table) for name, table in gaps.items()}
    return {name: (path.relative_to(folder.path).as_posix(), table) for name, (path, table) in named.items()}


def _figures(run: Run, images: OutOfFold, tables: Tables) -> dict[str, Figure]:
    """Return the figures of predictions, of what acquisition alone predicts, and of what else was asked for."""
    comparison = compare_with_networks(images, verified.read_table(run.folder.manifest))
    drawn = [figures.acquisition(comparison)]
    shown = images.classes.headline
    for name, draw in (("stress", figures.robustness), ("learning_curve", figures.learning)):
        if name in tables:
            drawn.append(draw(tables[name][tables[name]["class"] == shown], FOLD_METRICS))
    return figures_of(images, tables) | {figure.name: figure for figure in drawn}


def _training(run: Run) -> Figure:
    """Return the figure of how the networks were trained."""
    epochs = [verified.read_table(run.folder.fold(fold).epochs) for fold in range(run.config.folds)]
    return figures.training(pd.concat(epochs, ignore_index=True))
