"""Which columns of a table of predictions mean what, where another program made the predictions.

The options have the names that those about tables of labels have (`cxr.labelling`). Columns with a standard name are
found by themselves; what is ambiguous is asked for where it occurs, and never guessed.

Each field's sentence under `Attributes` is the one that `--help` shows.
"""

import re
from dataclasses import dataclass
from typing import Literal

from cxr.errors import ConfigError

CHOICES = {"uncertain": ("mask", "positive", "negative"), "blank": ("negative", "mask")}
"""As of tables of labels."""


@dataclass(frozen=True, kw_only=True)
class PredictionColumns:
    """Where a table of predictions holds what, if its columns have no standard names.

    Example:
        >>> cxr.PredictionColumns(value=("label:1=PNEUMONIA",)).meanings
        {('label', '1'): 'PNEUMONIA'}

    Attributes:
        path_column: Column that names the image, by path or id; by default path, filename, image, image_id or the like.
        label_column: Column with the true class, or with several findings separated by --separator; by default label,
            target, y_true or true_label.
        separator: What separates the findings in the label column, such as a vertical bar.
        label_columns: Columns with one finding each (1, 0, -1 or blank), separated by commas; COLUMN, or FINDING=COLUMN
            where the finding has another name. By default those named finding_FINDING.
        label_pattern: Regular expression whose first group, searched in an image's path, is its label.
        labels: Another table (csv, tsv, txt, jsonl, parquet, xlsx, also .gz) that holds the labels, patients and other
            facts of the images; its rows are found by the image's path.
        value: What a label means, COLUMN:VALUE=CLASS, such as label:1=PNEUMONIA; of a finding present, absent,
            uncertain or unknown; may be repeated.
        uncertain: What an uncertain finding (-1) means: unknown (mask), positive, or negative.
        blank: What a blank label means: the image is left out (mask); of several findings, this one is unknown in it
            (mask) or absent (negative). Without it, blank labels are refused.
        positive: Positive class, where there are two; by default the class of the only probability, or PNEUMONIA.
        probability_column: CLASS=COLUMN, a class or finding and the column with its probability; may be repeated. By
            default probability_CLASS, prob_CLASS, proba_CLASS, or columns that have the classes' own names.
        logit_column: CLASS=COLUMN, a class or finding and the column with its logit; may be repeated. By default
            logit_CLASS.
        patient_column: Column with the patient's id, which is kept as a keyed hash; by default patient_id, patient or
            group_id.
        fold_column: Column with the number of the fold that held the image out; by default fold.
        split_column: Column with the split; by default split.
        subgroup_column: Columns such as sex and age whose values become subgroups of the report, separated by commas;
            by default those named subgroup_NAME.
    """

    path_column: str | None = None
    label_column: str | None = None
    separator: str | None = None
    label_columns: tuple[str, ...] = ()
    label_pattern: str | None = None
    labels: str | None = None
    value: tuple[str, ...] = ()
    uncertain: Literal["mask", "positive", "negative"] | None = None
    blank: Literal["negative", "mask"] | None = None
    positive: str | None = None
    probability_column: tuple[str, ...] = ()
    logit_column: tuple[str, ...] = ()
    patient_column: str | None = None
    fold_column: str | None = None
    split_column: str | None = None
    subgroup_column: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("label_columns", "subgroup_column"):
            parts = (part.strip() for text in getattr(self, name) for part in text.split(","))
            object.__setattr__(self, name, tuple(filter(None, parts)))
        self._require_one_place()
        if self.probability_column and self.logit_column:
            raise ConfigError("--probability-column and --logit-column exclude each other: give one of them.")
        for name in ("uncertain", "blank"):
            value = getattr(self, name)
            if value is not None and value not in CHOICES[name]:
                raise ConfigError(f"--{name} must be one of {', '.join(CHOICES[name])}, got {value!r}.")
        for text in self.value:
            if not re.fullmatch(r"[^:]+:.*=.+", text):
                raise ConfigError(f"--value must look like label:1=PNEUMONIA (COLUMN:VALUE=CLASS), got {text!r}.")
        if self.label_pattern is not None:
            _require_group(self.label_pattern)

    def _require_one_place(self) -> None:
        """Raise ConfigError unless one option at most says where labels are."""
        given = [name for name in ("label_column", "label_columns", "label_pattern") if getattr(self, name)]
        if len(given) > 1:
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{flags} both say where labels are: give one of them.")
        if self.separator is not None and self.label_column is None:
            raise ConfigError("--separator is for --label-column: say which column holds several findings.")

    @property
    def columns_of_findings(self) -> list[tuple[str, str]]:
        """Each finding that `label_columns` names, and the column with its label."""
        parts = (text.partition("=") for text in self.label_columns)
        return [(name, column if sign else name) for name, sign, column in parts]

    @property
    def meanings(self) -> dict[tuple[str, str], str]:
        """The class that a label stands for, or what a value says of a finding, by column and value."""
        parts = (text.partition(":") for text in self.value)
        return {(column, rest.rpartition("=")[0]): rest.rpartition("=")[2] for column, _, rest in parts}


def _require_group(pattern: str) -> None:
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"--label-pattern {pattern!r} is not a regular expression: {error}.") from error
    if n_groups < 1:
        raise ConfigError(f"--label-pattern needs a group for what it finds, got {pattern!r}.")
