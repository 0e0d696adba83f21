"""What the images of a run look like: the measures that later images are compared with.

A package's reference and the run's table are measured by the same function, on grey squares of the model's size: the
squares that scoring measures. Grey levels of an image stretched to another size would be on another scale.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.images.vitals import measure_levels
from cxr.metrics.drift import ACQUISITION

QUANTILES = (0.05, 0.5, 0.95)


def measure_images(
    images: pd.DataFrame, manifest: pd.DataFrame, squares: Iterable[NDArray[np.uint8]] | None
) -> pd.DataFrame:
    """Return one row per image, in order: width, height, chroma, mean, contrast, border, dark_share, bright_share.

    Args:
        images: column path.
        manifest: the run's table of images, which holds their width, height and chroma.
        squares: each image's grey square, shape (size, size), in the order of `images`; None where the images are
            gone, which leaves their grey levels NaN.
    """
    known = manifest.drop_duplicates("path").set_index("path")
    sizes = known.loc[images["path"], ["width", "height", "chroma"]].reset_index(drop=True)
    if squares is None:
        return sizes.reindex(columns=[*sizes.columns, *(name for name in ACQUISITION if name not in sizes)])
    return pd.concat([sizes, pd.DataFrame([vars(measure_levels(square)) for square in squares])], axis=1)


def drift_reference_table(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the 5%, 50% and 95% quantile of each acquisition measure: measure, quantile, value.

    Args:
        measures: of the run's images, as `measure_images` returns them.
    """
    wide = measures[ACQUISITION].astype(float).quantile(list(QUANTILES)).rename_axis(index="quantile").reset_index()
    return wide.melt("quantile", var_name="measure")[["measure", "quantile", "value"]]
