"""The images of a data set, with labels from folders or from tables.

With tables of labels every image keeps its path in the source, whatever folders it lies in; images of which the tables
say nothing, or nothing that is used, are left aside with the reason.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from cxr.classes import spell_apart, spelt_alike
from cxr.config import DataConfig
from cxr.dataset.findings import as_columns, describe_findings
from cxr.dataset.listing.layout import LeftAside, Listing, SourceImage, kinds_of, list_images
from cxr.errors import DataError
from cxr.images.dicom.patient import patient_key
from cxr.images.source import Source
from cxr.labels.resolution import Resolved, require_patients, resolve, wanted_finding, with_classes


def list_data_set(source: Source, config: DataConfig, cache: Path) -> tuple[Listing, Resolved | None]:
    """Return the images of a source, and what tables of labels say of them; None if labels are folders.

    Args:
        source: the open data set.
        config: says where labels are.
        cache: holds the key of the patients' hashes.

    Raises:
        ConfigError: an option about tables names what is not there, or leaves open what has to be said.
        DataError: as for `list_images`; or a table is damaged, or contradicts itself or the data.
    """
    if not config.reads_tables:
        return list_images(source, config.class_folder), None
    kinds = kinds_of(source)
    files = sorted(key for key, kind in kinds.items() if kind is None)
    if not files:
        raise DataError(f"no image found among {len(kinds)} files of {config.data!r}: give the folder that holds them.")
    finding = wanted_finding(config, config.positive)
    found = resolve(config, source, files, partial(patient_key, cache), finding=finding)
    if config.has_findings:
        label = describe_findings(as_columns(found.findings))
        resolved = replace(found, images=found.images.assign(label=label))
    else:
        resolved = with_classes(found, config, config.positive)
        _require_spelling(resolved)
    return _listing(source, kinds | resolved.aside, resolved), resolved


def require_folds(resolved: Resolved, config: DataConfig) -> None:
    """Raise FoldError if a class has images of fewer patients outside the holdout than there are folds.

    Of several findings, `cxr.dataset.findings` says which have too few.
    """
    if config.has_findings:
        return
    is_inside = resolved.images["split"].fillna("") != (config.holdout or "\0")
    require_patients(resolved.only(is_inside, "held out"), config.folds)


def _require_spelling(resolved: Resolved) -> None:
    if alike := spelt_alike(resolved.images["label"].unique()):
        raise DataError(
            f"the labels {' and '.join(spell_apart(alike))} differ only in letter case, spaces or Unicode form: say "
            "which of them is meant with --value '*:LABEL=CLASS'."
        )


def _listing(source: Source, kinds: dict[str, str | None], resolved: Resolved) -> Listing:
    sizes = source.sizes()
    facts = resolved.images.sort_index()
    images = [
        SourceImage(str(path), str(path), label, split, sizes[str(path)], patient_id)
        for path, label, split, patient_id in zip(
            facts.index, facts["label"], _or_none(facts["split"]), _or_none(facts["patient_id"]), strict=True
        )
    ]
    left_aside = [LeftAside(key, kind, sizes[key]) for key, kind in sorted(kinds.items()) if kind is not None]
    return Listing(images, left_aside, [])


def _or_none(values: pd.Series) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in values]
