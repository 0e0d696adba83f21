"""The verb that compares runs and appraisals: compare."""

from pathlib import Path
from typing import TYPE_CHECKING

from cxr.cli import groups
from cxr.cli.app import Experiments, Json, app
from cxr.cli.verbs.appraisals import Appraisals
from cxr.errors import ConfigError, RunError

if TYPE_CHECKING:
    from cxr.storage.appraisal_folder import AppraisalFolder
    from cxr.storage.run_folder import RunFolder


@app.command(group=groups.FINISHED_RUNS)
def compare(
    first: str,
    second: str,
    /,
    *more: str,
    experiments: Experiments = Path("experiments"),
    appraisals: Appraisals = Path("appraisals"),
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Compare finished runs on the images that all of them predicted: paired differences, and which images changed.

    An appraisal (`cxr appraise`) stands beside runs: its images are found by their id or path.

    Example: cxr compare real64 real96

    Args:
        first: Run id, or path of a run's folder, or name of an appraisal; the other runs are compared with it.
        second: Another run or appraisal.
        more: Further ones.
        out: Folder for the two tables; by default comparisons/FIRST_SECOND.
    """
    from cxr.storage.run_folder import ComparisonFolder

    runs = [_run_or_appraisal(name, experiments, appraisals) for name in (first, second, *more)]
    from cxr.cli import documents, run_results
    from cxr.evaluation.on_request import comparison
    from cxr.evaluation.on_request.comparison import write_comparison

    compared = comparison.compare(runs)
    folder = ComparisonFolder(out or Path("comparisons") / "_".join(run.path.name for run in runs))
    write_comparison(folder, compared)
    (documents if json else run_results).show_comparison(compared, folder)


def _run_or_appraisal(name: str, experiments: Path, appraisals: Path) -> "RunFolder | AppraisalFolder":
    """Return the folder of the run or the appraisal that has a name.

    Raises:
        ConfigError: both have it.
        RunError: neither has it.
    """
    from cxr.storage.appraisal_folder import AppraisalFolder
    from cxr.storage.run_folder import RunFolder

    appraisal = AppraisalFolder.found(name, appraisals)
    if appraisal is None:
        return RunFolder.existing(name, experiments)
    try:
        run = RunFolder.existing(name, experiments)
    except RunError:
        return appraisal
    if run.path == appraisal.path:
        return appraisal
    raise ConfigError(
        f"{name!r} is a run and an appraisal: give the path of its folder, {str(run.path)!r} or "
        f"{str(appraisal.path)!r}."
    )
