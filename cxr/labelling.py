"""How images get their labels from tables: the part of a run's config that says which columns mean what.

Without any of these options labels are the names of folders. What a table leaves open (uncertain and blank values, rows
that disagree) has no default: `cxr.labels` asks for it where it occurs.

`LabelTables` has what every verb that reads tables of labels asks for, `Labelling` what a training asks for besides.

Each field's sentence under `Attributes` is the one that `--help` and the form in the Prefect UI show.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from cxr.descriptions import LISTS, read_description
from cxr.errors import ConfigError

Uncertain = Literal["mask", "positive", "negative"]
Blank = Literal["negative", "mask"]
Rows = Literal["any", "majority", "unanimous"]
MissingFilms = Literal["refuse", "allow"]

DESCRIBED_ELSEWHERE = ("positive", "holdout", "patient_pattern")
"""What a description may also set where the config has it."""
OF_TABLES = (
    "header",
    "path_column",
    "label_column",
    "label_columns",
    "patient_column",
    "split_column",
    "view_column",
    "exclude",
    "weight_column",
    "subgroup_column",
)
"""Options that say nothing where labels are in paths alone."""
CHOICES = {
    "uncertain": ("mask", "positive", "negative"),
    "blank": ("negative", "mask"),
    "rows": ("any", "majority", "unanimous"),
    "missing_films": ("refuse", "allow"),
}


@dataclass(frozen=True, kw_only=True)
class LabelTables:
    """Where labels come from, if not from folders.

    Attributes:
        labels: Table of labels (csv, tsv, txt, jsonl, parquet, xlsx, also .gz), on this machine or within the data; may
            be repeated: tables are joined on the columns that they share.
        describe: Description of the tables: a TOML file, or a known set that `cxr sets` lists; options that are given
            count more.
        header: Names of the columns of tables that have no line of names, separated by commas.
        path_column: Column that names the image; by default the only one whose values name files.
        label_column: Column with the class, or with several findings separated by --separator; by default label.
        separator: What separates the findings in the label column, such as a vertical bar.
        label_columns: Columns with one finding each (1, 0, -1 or blank), separated by commas.
        label_pattern: Regular expression whose first group, searched in an image's path, is its label.
        value: What a value means, COLUMN:VALUE=MEANING: a class, or present, absent, uncertain, unknown; may be
            repeated.
        uncertain: What an uncertain value (-1) means: the image is left out (mask), positive, or negative.
        blank: What a blank value means: negative, or the image is left out (mask).
        rows: Which of an image's rows count where they disagree: any that is positive, the majority, or only unanimous.
        patient_column: Column with the patient's id, which is kept as a keyed hash.
        view_column: Column with the view.
        view_positions: Views that are used, such as PA,AP; by DICOM's ViewPosition if there is no view column.
        exclude: COLUMN=VALUE, rows that are left out; may be repeated.
        missing_films: Whether rows may name files that are not there: refuse, or allow.
    """

    labels: tuple[str, ...] = ()
    describe: str | None = field(default=None, compare=False)
    header: tuple[str, ...] = ()
    path_column: str | None = None
    label_column: str | None = None
    separator: str | None = None
    label_columns: tuple[str, ...] = ()
    label_pattern: str | None = None
    value: tuple[str, ...] = ()
    uncertain: Uncertain | None = None
    blank: Blank | None = None
    rows: Rows | None = None
    patient_column: str | None = None
    view_column: str | None = None
    view_positions: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    missing_films: MissingFilms = "refuse"

    def __post_init__(self) -> None:
        if self.describe is not None:
            self._take_over(self.describe)
        self._tidy_lists()
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ConfigError(f"{_flag(name)} must be one of {', '.join(choices)}, got {value!r}.")
        _require_pattern("label_pattern", self.label_pattern)
        _require_pairs("exclude", self.exclude, "modality=CT")
        for text in self.value:
            if ":" not in text or "=" not in text.partition(":")[2]:
                raise ConfigError(f"--value must look like Target:1=PNEUMONIA (COLUMN:VALUE=MEANING), got {text!r}.")
        self._require_consistent()

    def _take_over(self, describe: str) -> None:
        """Give each option that was not given the value that the description has for it."""
        description = read_description(describe)
        own = {field.name: field.default for field in dataclasses.fields(self)}
        unknown = sorted(set(description.options) - set(LABELLING) - set(DESCRIBED_ELSEWHERE))
        if unknown:
            raise ConfigError(
                f"--describe {describe!r} sets {unknown[0]!r}, which is no option of a description; these are "
                f"{', '.join((*LABELLING, *DESCRIBED_ELSEWHERE))}."
            )
        is_other_label = any(getattr(self, name) for name in ("label_column", "label_columns", "label_pattern"))
        for name, value in description.options.items():
            if is_other_label and name in ("label_column", "label_columns", "label_pattern", "separator"):
                continue
            if name in own and getattr(self, name) == own[name]:
                object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        object.__setattr__(self, "describe", None)  # its values are written down in its place

    def _tidy_lists(self) -> None:
        for name, default in self._defaults().items():
            if default != ():
                continue
            texts = [str(text) for text in getattr(self, name)]
            if name in LISTS:
                texts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
            object.__setattr__(self, name, tuple(texts))

    def _require_consistent(self) -> None:
        """Raise ConfigError if one option makes no sense beside another, or without a table."""
        given = [name for name in ("label_column", "label_columns", "label_pattern") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(map(_flag, given))} both say where labels are: give one of them.")
        if self.separator is not None and self.label_column is None:
            raise ConfigError("--separator is for --label-column: say which column holds several findings.")
        for name, default in self._defaults().items():
            is_without = not self.reads_tables or (name in OF_TABLES and not self.labels)
            if is_without and getattr(self, name) != default:
                raise ConfigError(f"{_flag(name)} is about tables of labels: give --labels FILE, or leave it out.")

    @property
    def reads_tables(self) -> bool:
        """Whether labels come from tables or from a pattern, and not from folders."""
        return bool(self.labels or self.label_pattern)

    @property
    def meanings(self) -> dict[tuple[str, str], str]:
        """What values mean, by column and value."""
        parts = (text.partition(":") for text in self.value)
        return {(column, rest.rpartition("=")[0]): rest.rpartition("=")[2] for column, _, rest in parts}

    @property
    def label_names(self) -> list[str]:
        """The columns that hold labels; empty if labels are in paths."""
        if self.label_pattern:
            return []
        return list(self.label_columns) or [self.label_column or "label"]

    def alone(self) -> "Labelling":
        """Return the options of a data set of which tables say the labels and nothing else."""
        shared = (field.name for field in dataclasses.fields(LabelTables) if field.name != "describe")
        return Labelling(**{name: getattr(self, name) for name in shared})

    def labelling(self) -> dict[str, Any]:
        """Return the fields of `Labelling`; those that this class lacks have their defaults."""
        return {name: getattr(self, name, default) for name, default in LABELLING.items()}

    def _defaults(self) -> dict[str, Any]:
        """Return the options that this class has, with their defaults."""
        return {name: default for name, default in LABELLING.items() if hasattr(self, name)}


@dataclass(frozen=True, kw_only=True)
class Labelling(LabelTables):
    """Where the labels of a training come from, if not from folders, and what else tables say of its images.

    Attributes:
        split_column: Column with the split: train, val or test.
        split_list: SPLIT=FILE, a list of the images of a split, one a line; may be repeated.
        split_pattern: Regular expression whose first group, searched in an image's path, is its split.
        weight_column: Column with each image's weight in the training loss; metrics are not weighted.
        subgroup_column: Columns such as sex and age whose values become subgroups of the report, separated by commas.
    """

    split_column: str | None = None
    split_list: tuple[str, ...] = ()
    split_pattern: str | None = None
    weight_column: str | None = None
    subgroup_column: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_pattern("split_pattern", self.split_pattern)
        _require_pairs("split_list", self.split_list, "test=test_list.txt")


LABELLING: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Labelling) if field.name != "describe"
}
"""The options' defaults, which are not written down in a config: a run from folders keeps its identity."""


def _require_pattern(name: str, pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"{_flag(name)} {pattern!r} is not a regular expression: {error}.") from error
    if n_groups < 1:
        raise ConfigError(f"{_flag(name)} needs a group for what it finds, got {pattern!r}.")


def _require_pairs(name: str, texts: tuple[str, ...], example: str) -> None:
    for text in texts:
        if "=" not in text:
            raise ConfigError(f"{_flag(name)} must look like {example}, got {text!r}.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
