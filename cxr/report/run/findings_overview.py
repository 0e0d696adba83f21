"""The overview of a run with several findings per image: each finding in one line, with the page that is about it."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr import __version__
from cxr.classes import MACRO
from cxr.report.cells import Cells
from cxr.report.drawing import Figure
from cxr.report.markup import render
from cxr.report.results import HEADLINE
from cxr.report.run.cautions import is_surely_better
from cxr.storage import files, verified
from cxr.training.recipe_text import command_of, recipe_sentences
from cxr.training.run import Run
from cxr.wording import DISCLAIMER, display_name

SHOWN = ("summary", "operating_points")


def overview_page(
    run: Run,
    tables: Mapping[str, pd.DataFrame],
    pages: Mapping[str, Path],
    acquisition: Mapping[str, Path],
    training: Figure,
) -> str:
    """Return the overview as HTML.

    Args:
        run: finished, with several findings per image.
        tables: of all findings.
        pages: the page of each finding.
        acquisition: the table of each finding in which the networks are compared with acquisition alone.
        training: the figure of how the networks were trained, which predict all findings.
    """
    folder = run.folder
    facts = {file.name: verified.read_json(file) for file in (folder.config, folder.data, folder.certificate)}
    named = {name: (folder.table(name).relative_to(folder.path).as_posix(), tables[name]) for name in SHOWN}
    compared = {name: verified.read_table(file) for name, file in acquisition.items()}
    for name, file in acquisition.items():
        named[f"acquisition of {name}"] = (file.relative_to(folder.path).as_posix(), compared[name])
    return render(
        Path(__file__).with_name("findings_overview.html.j2"),
        run=run,
        cells=Cells(named, facts),
        pages={name: path.name for name, path in pages.items()},
        finding="",
        point=HEADLINE,
        compared=compared,
        has_folds=True,
        has_package=True,
        unit="patients",
        part="fold",
        doubtful=[name for name, comparison in compared.items() if not is_surely_better(comparison)],
        macro=MACRO,
        record=facts["config.json"],
        certificate=facts["leakage_certificate.json"],
        recipe=recipe_sentences(run.config),
        command=command_of(run.config, folder.run_id),
        figures={training.name: training},
        count=itertools.count(1).__next__,
        made_at=files.now(),
        version=__version__,
        display_name=display_name,
        disclaimer=DISCLAIMER,
    )
