"""Published results on the Kaggle set, which a report shows beside a run on that very set and no other."""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

FILE_NAMES_SHA256 = "3e1509ab6c824d5ac95b9b609b98d9bc4a4c84519d89e95322f67f671764583f"
"""Of the names of the set's 5,856 files from the split on, sorted, one a line, from `test/NORMAL/IM-0001-0001.jpeg`."""
PUBLISHED = (
    (
        "ResNet-50, five-fold cross-validation (the starting project)",
        "91.5",
        "97.5",
        "91.1",
        "92.4",
        "It is not stated whether all images of a patient are in one fold.",
    ),
    (
        "ResNet-50 fine-tuned, arXiv 2601.00837",
        "99.4",
        "99.9",
        "–",
        "–",
        "A random split by image: images of one patient are on both sides, which inflates every metric.",
    ),
    (
        "ResNet-50 and similar networks on the official test split, usual range",
        "86 to 91",
        "about 97.5",
        "–",
        "62 to 74",
        "At probability 0.5; a range, no single source. The 624 images are harder than a part of the training images.",
    ),
)
"""Name, accuracy, ROC-AUC, sensitivity, specificity in %, and a caveat."""


def is_kaggle(paths: Iterable[str]) -> bool:
    """Return whether the images are those of the Kaggle set, by their names: copies may be of another size.

    The archive on Kaggle holds the whole set a second time, one folder further down; that makes no difference.
    """
    names = {"/".join(PurePosixPath(path).parts[-3:]) for path in paths}
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() == FILE_NAMES_SHA256
