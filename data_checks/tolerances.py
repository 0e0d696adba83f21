"""The limits of all expectations, in one place, each with its reason.

Change them with a TOML file (`--tolerances FILE`, one `name = value` per line) or with a flow parameter.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr.config import BLANK_CONTRAST, PHOTOGRAPH_CHROMA
from cxr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Limits of the expectations; shares run from 0 to 1, grey levels from 0 to 255."""

    readable_share: float = 0.95
    """If fewer files can be read, the folder is broken, not just single images; critical."""
    left_aside_share: float = 0.1
    """If more files are hidden or no images by their names, images may be among them; a list beside them is one."""
    blank_contrast: float = BLANK_CONTRAST
    """An image whose grey levels have a smaller standard deviation is blank."""
    blank_share: float = 0.01
    """More blank images mean that the export went wrong; critical."""
    dark_share: float = 0.8
    """A larger black share of an image means a collimated sliver or a failed exposure; real images reach 0.34."""
    bright_share: float = 0.5
    """A larger white share of an image means a saturated exposure; real images reach 0.08."""
    chroma: float = PHOTOGRAPH_CHROMA
    """Mean distance from grey, in grey levels, above which an image counts as a colour photograph."""
    min_side_px: float = 128
    """Smaller images have lost the texture that shows a pneumonia."""
    max_aspect: float = 2.5
    """Longer side over shorter side; longer images are strips or montages. The Kaggle set reaches 2.4."""
    class_share: float = 0.05
    """The sensitivity of a rarer class depends on a few images."""
    images_per_patient: float = 50
    """More images under one id suggest that the pattern merges several patients; the Kaggle set reaches 31."""
    prevalence_gap: float = 0.05
    """How far the share of a class in a fold may be from its share in all folds; groups prevent an exact match."""
    fold_size_gap: float = 0.3
    """How far the size of a fold may be from the mean size, as a share of the mean size."""
    cluster_class_images: float = 20
    """Of fewer images of a class in a cluster (`--leave-out cluster`), one is 5 points of sensitivity or more."""
    probability_sum_error: float = 1e-6
    """The rounding error of a softmax in double precision is far smaller."""
    photograph_share: float = 0.2
    """A batch with more colour photographs among its readable images is a photo album, not radiographs; held."""
    quarantined_share: float = 0.2
    """If more files are quarantined, look at where they come from; texts, archives and the like do not count."""
    other_file_share: float = 0.9
    """Where nearly all files are texts or archives, the images may be packed in them, or lie elsewhere."""
    unlike_share: float = 0.05
    """At most 1% of ordinary images are unlike the training images; more are other views, or of something else."""
    novel_share: float = 0.1
    """A batch is held if, with 99.9% confidence, more of its images are novel; 1% of ordinary images are."""
    drift_images: float = 20
    """With fewer images, only a drastic change could be detected."""
    drift_effect: float = 0.3
    """Kolmogorov-Smirnov distance of two distributions, 0 to 1; a smaller one has no consequence."""
    drift_p_value: float = 0.001
    """Probability of such a difference by chance, corrected for the number of statistics."""
    accuracy_loss: float = 0.1
    """The estimate uses probabilities alone, so it is coarse, and a batch of hard images is not an error."""
    corrected_share: float = 0.1
    """If more labels that came after the scores were corrected, the first word on an image is not to be relied on."""
    acquisition_auc: float = 0.7
    """If acquisition alone ranks the classes better, a model may be reading the scanner instead of the lung."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"tolerance {field.name} must be a number, 0 or more, got {value!r}.")
            if field.name.endswith(("_share", "_gap", "_loss")) and value > 1:
                raise ConfigError(f"tolerance {field.name} must be a share from 0 to 1, got {value!r}.")

    @classmethod
    def of(cls, source: Path | Mapping[str, float] | None) -> "Tolerances":
        """Return the tolerances of a TOML file or a mapping; those it does not name keep their defaults.

        Raises:
            ConfigError: the file is missing, not TOML or in an object store, or a name or value is wrong.
        """
        values = _read(Path(source)) if isinstance(source, str | Path) else dict(source or {})
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"there is no tolerance {name!r}; the tolerances are {', '.join(known)}.")
        return cls(**values)


def _read(path: Path) -> dict[str, float]:
    from cxr.storage.files import require_local  # it brings pandas, and `cxr --help` reads this module

    require_local("--tolerances", path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--tolerances {str(path)!r} cannot be read as TOML: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class Checking:
    """How strictly the tables are checked, and what is written about it.

    Attributes:
        tolerances: TOML file with limits that differ from the defaults, such as class_share = 0.02.
        data_docs: Write Great Expectations' own pages as well; they load scripts from the network.
    """

    tolerances: Path | dict[str, float] | None = None
    data_docs: bool = False
