"""The images of a run, examined before anything is trained on them.

`examine` reads every image once and writes the manifest, the candidates for near-duplicates, the folds and their
leakage certificate into the run's folder. A data set that cannot be split into folds still gets a manifest, so that the
data checks can show what is wrong with it.
"""

import logging
from pathlib import Path

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.known_patients import log_patients, with_pattern_found
from cxr.dataset.listing.admission import list_admitted
from cxr.dataset.listing.layout import Listing, log_left_aside
from cxr.dataset.manifest import build_manifest, count_images, data_hash
from cxr.dataset.near_duplicates import find_near_duplicates
from cxr.dataset.pictures import thumbnails_of
from cxr.dataset.tables import assign_and_write, require_same_images, write_identity
from cxr.images.source import open_source
from cxr.images.vitals import open_vitals
from cxr.storage import events, files
from cxr.storage.run_folder import RunFolder

log = logging.getLogger(__name__)


def examine(
    config: DataConfig, folder: RunFolder, *, cache: Path, size: int | None = None, is_test_set: bool = False
) -> None:
    """Read the images and write their tables; for a run that has begun, check that the images are the same.

    Args:
        config: names the data set and how it is split into folds.
        folder: gets the tables.
        cache: gets decoded images and their vital signs.
        size: side of the squares to prepare for training, in pixels; None for no squares.
        is_test_set: whether the images need not be enough for folds.

    Raises:
        ConfigError: the positive class, a class folder, the holdout or an option about tables of labels does not fit
            the data, or the cache is a URL; nothing is written.
        DataError: no images are found, a folder is hardly a class, two classes are spelt almost alike, or a table of
            labels contradicts the data; nothing is written.
        FoldError: a class has fewer images or patients than there are folds; nothing is written.
        RunError: the run was begun with other images.
    """
    files.require_local("--cache", cache)
    with events.stage(folder.events, "examine") as stage:
        source = open_source(config.data)
        listing, resolved = list_admitted(source, config, folder, cache, is_test_set=is_test_set)
        findings = None if resolved is None else resolved.findings
        manifest = build_manifest(source, listing, config, cache, size, findings)
        stage.n_images = len(manifest)
        with_pattern = with_pattern_found(config, [image.path for image in listing.images])
        _log_images(manifest, listing)
        log_patients(manifest, with_pattern.patient_pattern)
        if folder.has_begun:
            require_same_images(folder, data_hash(manifest, resolved))
            write_identity(folder)
        else:
            read_thumbnail = thumbnails_of(source, listing, config)
            near_duplicates = find_near_duplicates(manifest, open_vitals(cache), read_thumbnail)
            assign_and_write(with_pattern, folder, manifest, near_duplicates, listing, resolved)


def _log_images(manifest: pd.DataFrame, listing: Listing) -> None:
    log.info("images: %s", " → ".join(f"{n:,} {name}" for name, n in count_images(manifest).items()))
    for row in manifest[manifest["status"] == "unreadable"].head(20).itertuples():
        log.warning("unreadable: %s (%s)", row.path, row.reason)
    log_left_aside(listing)
