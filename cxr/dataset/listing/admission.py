"""Which images a run is made from, refused where names of files, folders, classes and columns already rule it out."""

import dataclasses
from pathlib import Path

from cxr.config import DataConfig
from cxr.dataset.listing.labelled import list_data_set, require_folds
from cxr.dataset.listing.labels import require_labels, require_trainable
from cxr.dataset.listing.layout import Listing
from cxr.images.source import Source
from cxr.labels.resolution import Resolved
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder


def require_examinable(source: Source, config: DataConfig, folder: RunFolder, cache: Path) -> None:
    """Check all that can be known of a data set before an image is read: names of files, folders, classes and columns.

    Raises:
        CxrError: as `examine` would; nothing is written.
    """
    files.require_local("--cache", cache)
    list_admitted(source, config, folder, cache)


def list_admitted(
    source: Source, config: DataConfig, folder: RunFolder, cache: Path, *, is_test_set: bool = False
) -> tuple[Listing, Resolved | None]:
    """Return the images, and what tables of labels say of them, if both fit the config.

    Args:
        source: the data set.
        config: names the data set and how it is split into folds.
        folder: of the run, which may have begun.
        cache: holds the key of the patients' hashes.
        is_test_set: whether the images need not be enough for folds.

    Raises:
        CxrError: as for `examine`.
    """
    listing, resolved = _list_again(source, config, folder, cache)
    if folder.has_begun or is_test_set:
        require_labels(listing, config)
    elif resolved is None:
        require_trainable(listing, config)
    else:
        require_labels(listing, config)
        require_folds(resolved, config)
    return listing, resolved


def _list_again(source: Source, config: DataConfig, folder: RunFolder, cache: Path) -> tuple[Listing, Resolved | None]:
    """Return the images; those that a run left aside when it began stay so, whatever formats are read by now."""
    listing, resolved = list_data_set(source, config, cache)
    if not (folder.has_begun and verified.exists(folder.left_aside)):
        return listing, resolved
    before = set(verified.read_table(folder.left_aside)["path"])
    kept = [image for image in listing.images if image.key not in before]
    return dataclasses.replace(listing, images=kept), resolved
