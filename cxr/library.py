"""The functions behind `import cxr`: they take paths and return data frames.

Everything here calls what the command line calls, so the numbers are the same. Libraries that take seconds to load
are imported inside the functions that need them: reading a run's tables loads no torch.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings, outputs_of_record
from cxr.config import Compile, Execution, ScorePrecision, TrainConfig
from cxr.errors import RunError
from cxr.prediction_columns import PredictionColumns
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder, default_name
from cxr.storage.model_folder import PackageFolder
from cxr.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from cxr.evaluation.on_request.comparison import Comparison
    from cxr.serving.package import Package
    from cxr.serving.screening import FileReading

STEP = 128
"""Images that are decoded before the networks see them."""
Item = TypeVar("Item")


def load_package(path: str | Path) -> "Package":
    """Return a version of a packaged model, after checking that none of its files has changed.

    Args:
        path: Folder of the version, `models/NAME/VERSION`, as `cxr package` wrote it.

    Raises:
        CxrError: There is no model, a file was changed, is missing or was added, another version of cxr made it, or
            the folder is not named as the model and version that it holds.

    Example:
        >>> package = cxr.load_package("models/pneumonia/1")
        >>> package.name, package.version, package.size, package.n_folds
        ('pneumonia', '1', 64, 2)
        >>> package.classes
        ('NORMAL', 'PNEUMONIA')
    """
    from cxr.serving import package

    folder = Path(path)
    files.require_local("load_package", folder)
    return package.load_package(PackageFolder(folder.resolve()))


def load_champion(models: str | Path, name: str) -> "Package":
    """Return the champion of a model: the version that `cxr score` uses.

    Args:
        models: Folder that holds all models.
        name: Name of the model.

    Raises:
        CxrError: There is no such model, it has no champion, or the champion cannot be loaded; see `load_package`.

    Example:
        >>> cxr.load_champion("models", "pneumonia").version
        '1'
    """
    from cxr.serving import registry

    return registry.load_champion(Path(models), name)


class Predictor:
    """A packaged model, ready to predict; use it in one thread at a time.

    The networks are loaded at the first prediction. A file gets the same numbers as from `cxr score`, to the rounding
    of float32.

    Args:
        package: The model, from `load_package` or `load_champion`.
        device: `auto` (a GPU if there is one), `cpu`, or `cuda:N`.
        precision: `auto` (8-bit integers if the package has them, else the fastest that it allows), `fp32`, `bf16`, or
            `int8`.
        compile: `auto`, `on`, or `off`; `auto` compiles if `n_images` repays it.
        cache: Folder for compiled networks; made when something is compiled, and safe to delete.
        n_images: How many images you are going to predict in all, if you know.

    Raises:
        CxrError: The device is not there.

    Example:
        >>> predictor = cxr.Predictor(cxr.load_champion("models", "pneumonia"), device="cpu")
        >>> predictor.predict_files(["image.jpeg"])["status"].tolist()
        ['ok']
    """

    def __init__(
        self,
        package: "Package",
        *,
        device: str = "auto",
        precision: ScorePrecision = "auto",
        compile: Compile = "auto",
        cache: str | Path = "cache",
        n_images: int = 0,
    ) -> None:
        from cxr.serving import predictor

        self.package = package
        self._predictor = predictor.Predictor(
            package, device=device, precision=precision, compile=compile, cache=Path(cache), n_images=n_images
        )

    def predict_files(self, paths: Iterable[str | Path]) -> pd.DataFrame:
        """Predict image files: JPEG, PNG (8 or 16 bits), or DICOM with the extra `dicom`.

        Args:
            paths: Files; links are followed. Files are only read.

        Returns:
            One row per path, in their order, with the columns of the scores. `path` is as given; `batch` is missing. A
            file that cannot be used has `status` quarantined, a `reason` and a `detail`, and no probabilities.
            `probability_<class>`, from 0 to 1, is calibrated and the mean over the folds; `fold_spread` is the highest
            less the lowest fold; `novelty` is in standard deviations; `unlike_training` is missing if the package has
            no limit for it. `answer` is the class that alone fits the image, or `refer`, and `prediction_set` names
            the classes that fit; both are missing if the package refers no image.

        Raises:
            CxrError: The package does not allow the precision, or this machine does not have it.

        Example:
            >>> predictor = cxr.Predictor(cxr.load_champion("models", "pneumonia"), device="cpu")
            >>> scores = predictor.predict_files(["image.jpeg", "notes.txt", "nowhere.png"])
            >>> print(scores[["path", "status", "reason"]].to_string())
                      path       status      reason
            0   image.jpeg           ok         NaN
            1    notes.txt  quarantined  other_file
            2  nowhere.png  quarantined  unreadable
            >>> 0 <= float(scores["probability_PNEUMONIA"][0]) <= 1
            True
        """
        from cxr.images.inbox import single_file
        from cxr.serving.screening import read_image

        def read(path: str | Path) -> "FileReading":
            return read_image(single_file(Path(path)), self.package.size)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return self._table(list(pool.map(read, step)) for step in _steps(paths))

    def predict_arrays(self, arrays: Iterable[NDArray[Any]]) -> pd.DataFrame:
        """Predict images that are in memory as grey arrays.

        An array takes the way of a PNG file with the same pixels: the same refusals, the same square, the same numbers.

        Args:
            arrays: Each of shape (height, width), 32 to 100 million pixels as for files, low values dark (air), high
                values bright (bone). uint8 is used as it is. uint16 is stretched so that its lowest value is black and
                its highest white, as 16-bit files are. float16, float32 and float64 have any finite values and are
                stretched likewise, in 65,536 steps.

        Returns:
            One row per array, in their order, with the columns of the scores. `path` is the position, from "0";
            `batch` and `image_id` are missing, and `n_bytes` is the size of the array. An image that cannot be used,
            such as a blank one, has `status` quarantined, a `reason` and a `detail`.

        Raises:
            CxrError: An array has another type or shape, or values that are not finite; as for `predict_files`.

        Example:
            >>> pixels = np.random.default_rng(0).integers(0, 4096, (480, 400)).astype(np.uint16)
            >>> predictor = cxr.Predictor(cxr.load_champion("models", "pneumonia"), device="cpu")
            >>> scores = predictor.predict_arrays([pixels, np.zeros((480, 400))])
            >>> print(scores[["path", "status", "reason", "width", "height"]].to_string())
              path       status reason  width  height
            0    0           ok    NaN    400     480
            1    1  quarantined  blank   <NA>    <NA>
        """
        from cxr.serving.screening import examine_array

        readings = (examine_array(k, array, self.package.size) for k, array in enumerate(arrays))
        return self._table(_steps(readings))

    def _table(self, steps: Iterable[Sequence["FileReading"]]) -> pd.DataFrame:
        from cxr.serving.scoring.scores import score_rows, scores_table

        rows: list[dict[str, object]] = []
        for readings in steps:
            usable = [reading for reading in readings if reading.refused is None]
            rows += score_rows(self.package, None, readings, self._predictor.predict(usable))
        return scores_table(rows, self.package.outputs)


@dataclass(frozen=True)
class RunTables:
    """A run: its facts, and its tables as data frames with the columns of docs/reference/tables.md.

    Attributes:
        path: The run's folder.
        config: What was computed.
        classes: Names of classes or findings, in the order of the outputs; of two classes the positive one is last.
        facts: Everything in `config.json`: when the run began, the hashes of data, weights, code and lock, devices, ….
    """

    path: Path
    config: TrainConfig
    classes: Classes | Findings
    facts: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The name of the run."""
        return self._folder.run_id

    def predictions(self) -> pd.DataFrame:
        """Return the out-of-fold table: one row per image, predicted by the fold that did not see it."""
        return self.table("predictions")

    def metrics(self) -> pd.DataFrame:
        """Return the metrics of each fold and pooled, one row per value, from 0 to 1, with 95% intervals."""
        return self.table("metrics")

    def summary(self) -> pd.DataFrame:
        """Return one row per metric: mean and standard deviation over the folds, pooled, and intervals of both."""
        return self.table("summary")

    def table(self, name: str) -> pd.DataFrame:
        """Return any table of the run by its file name without the ending, such as `manifest` or `subgroups`.

        The tables lie in the run's folder, in `metrics/` and in `checks/`.

        Raises:
            CxrError: The run has no such table, or it is damaged.
        """
        tables = self._tables()
        if name not in tables:
            raise RunError(f"run {self.run_id!r} has no table {name!r}; it has {', '.join(sorted(tables)) or 'none'}.")
        return verified.read_table(tables[name])

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.path)

    def _tables(self) -> dict[str, Path]:
        places = self.path, self._folder.checks, self._folder.metrics.parent
        return {file.stem: file for place in places for file in verified.files_in(place, ".parquet")}


def load_run(path: str | Path) -> RunTables:
    """Return a run, finished or not.

    Args:
        path: Folder of the run, `experiments/RUN`, or a URL such as `s3://bucket/experiments/RUN`.

    Returns:
        The run, with `run_id`, `path`, `config`, `classes` and `facts` (everything in `config.json`). Its methods
        return data frames: `predictions()` one row per image, out of fold; `metrics()` one row per fold, class and
        metric, from 0 to 1, with intervals; `summary()` one row per metric; `table(name)` any other table, such as
        `manifest`.

    Raises:
        CxrError: There is no run in the folder, or another version of cxr wrote it.

    Example:
        >>> run = cxr.load_run("experiments/first")
        >>> run.run_id, run.config.folds, run.classes
        ('first', 2, ('NORMAL', 'PNEUMONIA'))
        >>> predictions = run.predictions()
        >>> predictions[["path", "label", "probability_PNEUMONIA"]].shape[1]
        3
        >>> auc = run.summary().set_index("metric")["pooled"]["roc_auc"]
        >>> 0 <= float(auc) <= 1
        True
        >>> sorted(run.table("manifest")["status"].unique())
        ['duplicate', 'unreadable', 'used']
    """
    folder = RunFolder(files.located(Path(path)))
    if not verified.exists(folder.config):
        raise RunError(f"no run in {str(folder.path)!r}: give the path of a run's folder, such as experiments/first.")
    record = verified.read_record(folder.config)
    return RunTables(folder.path, TrainConfig.from_dict(record["config"]), outputs_of_record(record), record)


def compare(runs: Sequence[RunTables]) -> "Comparison":
    """Compare finished runs with the first of them, on the images that all of them predicted.

    Args:
        runs: Two or more different runs with the same classes, from `load_run` or `cross_validate`.

    Returns:
        The comparison. `n_images` counts the images in common. `metrics` is a data frame with one row per run, class
        and metric: `value`, from 0 to 1, `difference` from the first run (NaN for that run itself), its 95% interval
        `ci_low` and `ci_high`, and `test` and `p_value` where there is a test. `changed` is a data frame of the images
        that the runs do not predict alike.

    Raises:
        CxrError: There are fewer than two different runs, one is unfinished, or classes or labels differ.

    Example:
        >>> runs = [cxr.load_run("experiments/first"), cxr.load_run("experiments/second")]
        >>> differences = cxr.compare(runs).metrics
        >>> of_second = differences[differences["run"] == "second"].set_index("metric")
        >>> float(of_second["difference"]["roc_auc"]), of_second["test"]["roc_auc"]
        (0.0, 'DeLong')
    """
    from cxr.evaluation.on_request import comparison

    return comparison.compare([RunFolder(run.path) for run in runs])


def appraise(
    file: str | Path,
    columns: PredictionColumns | None = None,
    *,
    name: str | None = None,
    appraisals: str | Path = "appraisals",
    cache: str | Path = "cache",
) -> dict[str, pd.DataFrame]:
    """Appraise a table of predictions that another program made, and write its tables and report, as `cxr appraise`.

    Args:
        file: csv, tsv, txt, jsonl, parquet or xlsx, also compressed with gzip; one row per image, with one label or
            the labels of several findings.
        columns: Which of its columns mean what, where their names do not say so.
        name: Name of the appraisal; by default that of the file.
        appraisals: Folder that holds all appraisals; the report is `NAME/report.html` in it.
        cache: Folder of the key that patient ids are hashed with.

    Returns:
        The tables by name, with the columns of a run's: `predictions`, `metrics` (from 0 to 1, with intervals over
        patients), `summary`, `calibration`, `operating_points`, `subgroups`, and others.

    Raises:
        CxrError: The table holds what cannot be appraised, or an option has to say what a column means; or the name is
            that of another appraisal.

    Example:
        >>> columns = cxr.PredictionColumns(positive="PNEUMONIA", patient_column="patient")
        >>> tables = cxr.appraise("predictions.csv", columns)
        >>> summary = tables["summary"].set_index("metric")
        >>> 0 <= float(summary["pooled"]["roc_auc"]) <= 1
        True
    """
    from cxr import pipeline

    path = Path(file)
    folder = AppraisalFolder.named(Path(appraisals), name or default_name(path))
    pipeline.appraise_predictions(path, columns or PredictionColumns(), folder, Path(cache))
    tables = verified.files_in(folder.predictions.parent, ".parquet")
    return {table.stem: verified.read_table(table) for table in tables}


def cross_validate(config: TrainConfig, execution: Execution | None = None) -> RunTables:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, and write the run's tables and report.

    Each fold is trained in a process of its own. If the process is killed, call it again with the same arguments to
    resume. Progress is logged to the logger `cxr`. The tables are those of `cxr train`, which also checks the data.

    Args:
        config: What to compute.
        execution: Where to compute it and where to keep it; by default on this machine, in `experiments/` and `cache/`.

    Returns:
        The finished run; see `load_run`.

    Raises:
        CxrError: The data, the weights or a device are not there, or the run was begun with another config.
        FoldFailedError: A fold failed although nothing is wrong with the arguments; the others are kept.

    Example:
        >>> config = cxr.TrainConfig(data="chest_xray", weights="none", trainable="all", size=32, folds=2, epochs=1)
        >>> run = cxr.cross_validate(config, cxr.Execution(run_id="small", devices="cpu"))
        >>> run.path.name, run.summary()["metric"].iloc[0]
        ('small', 'accuracy')
    """
    from cxr import pipeline

    return load_run(pipeline.cross_validate(config, execution or Execution()).path)


def _steps(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, STEP)), [])
