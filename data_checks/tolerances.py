"""What is still acceptable: every number that an expectation compares with, in one place, with its reason.

Set them from a TOML file (`--tolerances FILE`, one `name = value` a line) or as a flow parameter.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr.config import BLANK_CONTRAST, PHOTOGRAPH_CHROMA
from cxr.errors import ConfigError
from cxr.storage.files import require_local


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Limits of the expectations; shares run from 0 to 1, grey levels from 0 to 255."""

    readable_share: float = 0.95
    """Below this share of readable files the folder is broken, not an image here and there; critical."""
    blank_contrast: float = BLANK_CONTRAST
    """An image whose grey levels spread less is blank."""
    blank_share: float = 0.01
    """More blank images than this share are an export gone wrong; critical."""
    dark_share: float = 0.8
    """More of an image at black means a collimated sliver or a failed exposure; real images reach 0.34."""
    bright_share: float = 0.5
    """More of an image at white means a saturated exposure; real images reach 0.08."""
    chroma: float = PHOTOGRAPH_CHROMA
    """Levels from grey above which an image counts as a colour photograph."""
    min_side_px: float = 128
    """Smaller images have lost the texture that a pneumonia is seen by."""
    max_aspect: float = 2.5
    """Width to height, or height to width; wider images are strips or montages. The Kaggle set reaches 2.4."""
    class_share: float = 0.05
    """A class rarer than this makes its sensitivity a matter of a few images."""
    images_per_patient: float = 50
    """More images under one id mean that the name pattern lumps patients together; the Kaggle set reaches 31."""
    prevalence_gap: float = 0.05
    """How far a class's share in a fold may lie from its share in all folds: grouped folds cannot match it exactly."""
    fold_size_gap: float = 0.3
    """How far a fold's size may lie from the mean fold's, as a share of it."""
    probability_sum_error: float = 1e-6
    """Rounding of a softmax in double precision is far below this."""
    photograph_share: float = 0.2
    """More colour photographs than this among a batch's readable pictures are an album, not a scoring run's images; held."""
    quarantined_share: float = 0.2
    """More quarantined files than this deserve a look at where they come from."""
    novel_share: float = 0.1
    """A batch is held if it surely (99.9 %) holds a larger share of novel images; of ordinary images 1 % are novel."""
    drift_images: float = 20
    """With fewer images only a change of everything would show."""
    drift_effect: float = 0.3
    """Distance of two distributions (Kolmogorov-Smirnov, 0 to 1) below which a difference is of no consequence."""
    drift_p_value: float = 0.001
    """Chance of any such difference where there is none; corrected for the number of statistics."""
    accuracy_loss: float = 0.1
    """The estimate from probabilities alone is coarse, and a batch of hard images is no fault."""
    acquisition_auc: float = 0.7
    """If acquisition alone ranks the classes better than this, a model may be reading the scanner, not the lung."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"tolerance {field.name} must be a number of 0 or more, got {value!r}.")
            if field.name.endswith(("_share", "_gap", "_loss")) and value > 1:
                raise ConfigError(f"tolerance {field.name} is a share from 0 to 1, got {value!r}.")

    @classmethod
    def of(cls, given: Path | Mapping[str, float] | None) -> "Tolerances":
        """Return the tolerances that a TOML file or a mapping sets, the others at their defaults.

        Raises:
            ConfigError: the file is missing, no TOML or in an object store, or a name or value is wrong.
        """
        values = _read(Path(given)) if isinstance(given, str | Path) else dict(given or {})
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"there is no tolerance {name!r}; known are {', '.join(known)}.")
        return cls(**values)


def _read(path: Path) -> dict[str, float]:
    require_local("--tolerances", path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--tolerances {str(path)!r} cannot be read as TOML: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class Checking:
    """How strictly tables are judged, and what is written about it.

    Attributes:
        tolerances: TOML file with limits that differ from the defaults, such as class_share = 0.02.
        data_docs: Write Great Expectations' own pages as well; they load scripts from the network.
    """

    tolerances: Path | dict[str, float] | None = None
    data_docs: bool = False
