"""An inbox of drawn images that were scored and labelled since, for a model that can be trained again."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr.config import RetrainConfig, RunLocation
from cxr.export.build import make_package
from cxr.feedback.feedback import give_feedback
from cxr.images.dicom.patient import KEY_BYTES
from cxr.images.reading import image_id_of
from cxr.images.synthetic import draw_images
from cxr.serving import registry
from cxr.storage import files
from cxr.storage.cache_folder import CacheFolder
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import Run
from tests.support.labels import from_table
from tests.support.scores import draw_scores


@dataclass(frozen=True)
class Site:
    """A folder with a model `tiny`, its run, an inbox, and the scores of it."""

    path: Path

    @property
    def model(self) -> ModelFolder:
        return ModelFolder.named(self.path / "models", "tiny")

    @property
    def scores(self) -> ScoresFolder:
        return ScoresFolder.at(self.path / "scores")

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def config(self) -> RetrainConfig:
        return RetrainConfig(name="tiny", share=0.5, out=self.path / "scores", models=self.path / "models")

    @property
    def location(self) -> RunLocation:
        return RunLocation(experiments=self.path / "experiments", cache=self.path / "cache")


def make_site(place: Path, run: Run) -> Site:
    """Make a site whose champion is made of a finished run, which is linked to, not copied.

    Its key for patient ids is fixed, so that the same patients are set aside each time.
    """
    site = Site(place)
    key = CacheFolder(site.location.cache).patient_key
    key.parent.mkdir()
    key.touch(mode=0o600)
    key.write_bytes(bytes(KEY_BYTES))
    (place / "experiments").mkdir()
    (place / "experiments" / run.folder.run_id).symlink_to(run.folder.path)
    registry.promote(site.model, make_package(run, site.model).version)
    return site


def copy_site(site: Site, place: Path) -> Site:
    """Copy a site, but for the images in its inbox, which stay where they are, and what its runs' links lead to."""
    for name in ("experiments", "models", "scores", "cache"):
        shutil.copytree(site.path / name, place / name, symlinks=True)
    return Site(place)


def score_drawn(site: Site, *, n_images: int = 90, seed: int = 7) -> pd.DataFrame:
    """Draw images into the inbox and publish scores of them; return path, label, image_id and patient_id of each."""
    draw_images(site.path / "drawn", n_images=n_images, seed=seed)
    rows = []
    for file in sorted((site.path / "drawn").rglob("*.jpeg")):
        data = file.read_bytes()
        rows.append((f"monday/{len(rows)}.jpeg", file.parent.name, image_id_of(data), f"site {len(rows)}", len(data)))
        (site.inbox / "monday").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, site.inbox / rows[-1][0])
    table = pd.DataFrame(rows, columns=["path", "label", "image_id", "patient_id", "n_bytes"])
    scores = draw_scores(site.scores.path, (table["label"] == "PNEUMONIA").tolist())
    scores = scores.assign(path=table["path"].str.removeprefix("monday/"), image_id=table["image_id"])
    (part,) = site.scores.published("monday").parts()
    files.write_table(part, scores.assign(n_bytes=table["n_bytes"]))
    record = {"format": files.FORMAT, "inbox": str(site.inbox)}
    files.write_json(site.scores.scoring_run("2026-11-02T02-00-00-000000Z").record, record)
    return table.drop_duplicates("image_id")


def label_images(site: Site, table: pd.DataFrame) -> None:
    """Enter labels, with the patients, as `cxr feedback` does."""
    file = site.path / "labels.csv"
    table[["path", "label", "patient_id"]].to_csv(file, index=False)
    champion = registry.load_champion(site.path / "models", "tiny")
    give_feedback(site.scores, site.model, champion, from_table(file), by="ada", cache=site.path / "cache")
