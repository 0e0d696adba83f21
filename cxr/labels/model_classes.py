"""Tables of labels for a packaged model: a label that is none of the model's classes is refused, never guessed."""

from collections.abc import Sequence

from cxr.classes import Classes
from cxr.errors import DataError
from cxr.images.source import Source
from cxr.labelling import Labelling, LabelTables
from cxr.labels.facts import PatientKey
from cxr.labels.matching import Match, match_files
from cxr.labels.resolution import Resolved, resolve, wanted_finding, with_classes


def resolve_for(
    classes: Classes,
    tables: LabelTables,
    source: Source,
    files: Sequence[str],
    key: PatientKey,
    match: Match = match_files,
) -> Resolved:
    """Return what the tables say of the images, with one of the model's classes for each, as the column `label`.

    Args:
        classes: of the model.
        tables: which they are, and what their columns mean.
        source: holds the images.
        files: their paths in it.
        key: returns the key of the patients' hashes.
        match: which file a value of the path column names.

    Raises:
        ConfigError: an option names what is not there, or leaves open what has to be said.
        DataError: a table contradicts itself or the images, or a label is none of the classes.
    """
    labelling = tables.alone()
    positive = _positive(labelling, classes)
    found = resolve(labelling, source, files, key, finding=wanted_finding(labelling, positive), match=match)
    resolved = with_classes(found, labelling, positive)
    _require_known(resolved, classes)
    return resolved


def _positive(labelling: Labelling, classes: Classes) -> str | None:
    """Return the finding that is one against the rest; None where each row has one of the model's classes."""
    is_class = wanted_finding(labelling, "any") is None
    return None if is_class and classes[0] != f"not {classes[-1]}" else classes.positive


def _require_known(resolved: Resolved, classes: Classes) -> None:
    label = resolved.images["label"]
    unknown = label[~label.isin(classes)]
    if len(unknown):
        raise DataError(
            f"{str(unknown.index[0])!r} has the label {unknown.iloc[0]!r}, as do {len(unknown) - 1:,} more images: "
            f"each image needs one of the model's classes {', '.join(map(repr, classes))}; say which is meant with "
            f"--value '*:{unknown.iloc[0]}=CLASS'."
        )
