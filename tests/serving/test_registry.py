import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from cxr.errors import DamagedError, PackageError
from cxr.export.build import make_package
from cxr.metrics.bootstrap import draw_groups
from cxr.serving import registry
from cxr.serving.package import Package, load_package
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import Run
from tests.support.packages import replace, sign
from tests.support.processes import PROJECT, start_process
from tests.support.runs import Finished
from tests.support.shared import NewFolder

Change = Callable[[pd.DataFrame], pd.DataFrame]
GOOD, AS_GOOD, BETTER, WORSE = (3.0, 0), (3.0, 1), (9.0, 2), (0.3, 3)
"""How far the probabilities of the two classes are apart, and the seed of their scatter."""


@pytest.fixture(scope="module")
def run(finished: Finished, weights_file: str) -> Run:
    """A finished run with a frozen trunk."""
    return finished(weights=weights_file, trainable="head")


@pytest.fixture(scope="module")
def original(run: Run, new_folder: NewFolder) -> PackageFolder:
    return make_package(run, ModelFolder.named(new_folder("models"), "tiny"))


def add_version(model: ModelFolder, original: PackageFolder, change: Change, **facts: object) -> str:
    """Copy a package as the next version of a model, with other images and facts, and sign it anew."""
    version = str(len(model.versions()) + 1)
    folder = model.version(version)
    shutil.copytree(original.path, folder.path, copy_function=os.link)
    files.write_table(folder.images, change(files.read_table(original.images)))
    files.write_json(
        folder.description, files.read_json(original.description) | {"name": model.name, "version": version} | facts
    )
    sign(folder)
    return version


def separating(by: float, seed: int) -> Change:
    """Return a function that gives images probabilities which separate the classes, more or less."""

    def change(images: pd.DataFrame) -> pd.DataFrame:
        scatter = np.random.default_rng(seed).normal(size=len(images))
        probability = expit(by * (images["label"] == "PNEUMONIA") + scatter)
        return images.assign(probability_PNEUMONIA=probability, probability_NORMAL=1 - probability)

    return change


@pytest.fixture
def make(original: PackageFolder, tmp_path: Path) -> Callable[..., ModelFolder]:
    """Make a model with a version for each goodness: make(GOOD, WORSE)."""

    def make_model(*goodness: tuple[float, int]) -> ModelFolder:
        model = ModelFolder.named(tmp_path / "models", "tiny")
        for by, seed in goodness:
            add_version(model, original, separating(by, seed))
        return model

    return make_model


def events(model: ModelFolder) -> list[tuple[str | None, str]]:
    return [(event["from"], event["to"]) for event in json.loads(model.promotions.read_text())["promotions"]]


def test_the_champion_is_what_loads(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, AS_GOOD)
    with pytest.raises(PackageError, match=r"no champion \(versions: 1, 2\): `cxr package RUN --name tiny` makes"):
        registry.load_champion(model.path.parent, "tiny")
    assert registry.promote(model, "1") == "the first champion"
    assert registry.load_champion(model.path.parent, "tiny").version == "1"
    assert "already" in registry.promote(model, "1")
    registry.promote(model, "2")
    assert registry.load_champion(model.path.parent, "tiny").version == "2"
    assert events(model) == [(None, "1"), ("1", "2")]


def slow_comparison(champion: Package, challenger: Package) -> tuple[float, float, float]:
    """Return difference in ROC-AUC, low and high of its interval: every pair of images, one draw after another."""
    images = champion.images()
    truth, group = (images["label"] == "PNEUMONIA").to_numpy(), images["group"].to_numpy()
    scores = [package.images()["probability_PNEUMONIA"].to_numpy() for package in (champion, challenger)]
    wins = [(s[truth, None] > s[~truth]) + (s[truth, None] == s[~truth]) / 2 for s in scores]

    def difference(weight: np.ndarray) -> float:
        n_pairs = weight[truth].sum() * weight[~truth].sum()
        return float(weight[truth] @ (wins[1] - wins[0]) @ weight[~truth]) / n_pairs

    low, high = np.percentile([difference(drawn[group]) for drawn in draw_groups(group.max() + 1)], [2.5, 97.5])
    return difference(np.ones(len(group))), float(low), float(high)


def test_a_challenger_that_is_shown_worse_is_refused_with_the_interval_and_promoted_by_force(
    make: Callable[..., ModelFolder], caplog: pytest.LogCaptureFixture
) -> None:
    model = make(GOOD, WORSE)
    registry.promote(model, "1")
    point, low, high = slow_comparison(*(load_package(model.version(version)) for version in ("1", "2")))
    assert high < 0
    interval = f"difference {point:+.4f} [{low:+.4f}, {high:+.4f}]"
    with pytest.raises(PackageError, match=f"does not become champion: ROC-AUC .* {re.escape(interval)}. --force"):
        registry.promote(model, "2")
    assert (registry.champion_version(model), events(model)) == ("1", [(None, "1")])
    assert interval in registry.promote(model, "2", force=True)
    assert "promoted by force" in caplog.text
    assert (registry.champion_version(model), events(model)) == ("2", [(None, "1"), ("1", "2")])
    assert [event["force"] for event in files.read_json(model.promotions)["promotions"]] == [False, True]


@pytest.mark.parametrize("goodness", [GOOD, AS_GOOD, BETTER])
def test_a_challenger_that_is_not_shown_worse_becomes_champion(
    make: Callable[..., ModelFolder], goodness: tuple[float, int]
) -> None:
    model = make(GOOD, goodness)
    registry.promote(model, "1")
    verdict = registry.promote(model, "2")
    assert "on 76 shared images" in verdict
    assert ("difference +0.0000 [+0.0000, +0.0000]" in verdict) == (goodness == GOOD)
    assert registry.champion_version(model) == "2"


def test_a_model_of_clusters_is_not_compared_with_one_of_patients(
    make: Callable[..., ModelFolder], original: PackageFolder
) -> None:
    model = make(GOOD)
    registry.promote(model, "1")
    config = files.read_json(original.description)["config"]
    clusters = [
        add_version(model, original, separating(*BETTER), config=config | {"leave_out": "cluster"}) for _ in range(2)
    ]
    with pytest.raises(PackageError, match="its folds left out a cluster each, the champion's a patient"):
        registry.promote(model, clusters[0])
    registry.promote(model, clusters[0], force=True)
    assert "on 76 shared images" in registry.promote(model, clusters[1])
    with pytest.raises(PackageError, match="its folds left out a patient each, the champion's a cluster"):
        registry.promote(model, "1")


def test_only_images_that_both_models_predicted_are_compared(
    make: Callable[..., ModelFolder], original: PackageFolder
) -> None:
    model = make(GOOD)
    registry.promote(model, "1")

    def half_of_them_as_good_and_the_others_strangers(images: pd.DataFrame) -> pd.DataFrame:
        shared = images.groupby("label").cumcount() % 2 == 0
        good, bad = separating(*GOOD)(images), separating(-9, 0)(images).assign(image_id="of another set")
        return pd.concat([bad[~shared], good[shared].sample(frac=1, random_state=0)])

    version = add_version(model, original, half_of_them_as_good_and_the_others_strangers)
    n_shared = sum((n + 1) // 2 for n in files.read_table(original.images)["label"].value_counts())
    equal = f"{n_shared} shared images, difference +0.0000 [+0.0000, +0.0000]"
    assert equal in registry.promote(model, version)


THREE = {
    "classes": ["NORMAL", "PNEUMONIA", "tuberculosis"],
    "calibration": {"temperature": 1.0, "bias": [0.0, 0.0, 0.0]},
}


def of_three_classes(images: pd.DataFrame) -> pd.DataFrame:
    third = images.index % 3 == 0
    label = images["label"].mask(third, "tuberculosis")
    return separating(*GOOD)(images).assign(label=label, probability_tuberculosis=0.1 + 0.5 * third)


@pytest.mark.parametrize(
    ("change", "facts", "sentence"),
    [
        (
            lambda images: images.assign(image_id=images["image_id"].str[::-1]),
            {},
            "it shares 0 images with the champion",
        ),
        (lambda images: images[images["label"] == "NORMAL"], {}, r"it shares \d+ images with the champion, too few"),
        (of_three_classes, THREE, "its classes are .*, the champion's"),
    ],
)
def test_a_challenger_that_cannot_be_compared_is_refused_unless_forced(
    make: Callable[..., ModelFolder], original: PackageFolder, change: Change, facts: dict[str, object], sentence: str
) -> None:
    model = make(GOOD)
    registry.promote(model, "1")
    version = add_version(model, original, change, **facts)
    with pytest.raises(PackageError, match=f"version 2 of tiny does not become champion: {sentence}"):
        registry.promote(model, version)
    assert registry.champion_version(model) == "1"
    registry.promote(model, version, force=True)
    assert registry.champion_version(model) == "2"


def test_a_challenger_that_shares_no_image_of_some_class_is_refused(
    make: Callable[..., ModelFolder], original: PackageFolder
) -> None:
    model = make()
    registry.promote(model, add_version(model, original, of_three_classes, **THREE))
    without = add_version(
        model, original, lambda images: of_three_classes(images).query("label != 'tuberculosis'"), **THREE
    )
    with pytest.raises(PackageError, match="does not become champion"):
        registry.promote(model, without)


@pytest.mark.parametrize("version", ["9", "", "1/", "../other/1", "{models}/tiny/1", ".making-1"])
def test_a_version_that_is_not_among_the_models_own_is_refused(make: Callable[..., ModelFolder], version: str) -> None:
    model = make(GOOD)
    for stranger in ("../other/1", ".making-1"):
        shutil.copytree(model.version("1").path, model.path / stranger, copy_function=os.link)
    with pytest.raises(PackageError, match=r"^[^\n]+$"):
        registry.promote(model, version.format(models=model.path.parent))
    assert registry.champion_version(model) is None


def test_a_damaged_version_does_not_become_champion(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, AS_GOOD)
    registry.promote(model, "1")
    replace(model.version("2").fold_weights(0), b"damaged")
    with pytest.raises(PackageError, match="was changed"):
        registry.promote(model, "2", force=True)
    assert registry.champion_version(model) == "1"


def test_a_damaged_champion_is_replaced_by_force(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, AS_GOOD)
    registry.promote(model, "1")
    replace(model.version("1").fold_weights(0), b"damaged")
    with pytest.raises(PackageError):
        registry.promote(model, "2")
    registry.promote(model, "2", force=True)
    assert registry.champion_version(model) == "2"


def test_rollback_goes_back_one_champion_after_another(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, GOOD, GOOD)
    with pytest.raises(PackageError, match="model 'tiny' has no champion before any: there is nothing to roll back to"):
        registry.rollback(model)
    for version in ("1", "2", "3"):
        registry.promote(model, version)
    assert [registry.rollback(model), registry.rollback(model)] == ["2", "1"]
    assert registry.champion_version(model) == "1"
    with pytest.raises(PackageError, match="has no champion before 1"):
        registry.rollback(model)
    registry.promote(model, "3")
    assert registry.rollback(model) == "1", "from where 3 was promoted, not the number before it"
    journal = [(None, "1"), ("1", "2"), ("2", "3"), ("3", "2"), ("2", "1"), ("1", "3"), ("3", "1")]
    assert events(model) == journal


def test_rollback_goes_back_to_a_champion_that_came_twice(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, GOOD)
    for version in ("1", "2", "1"):
        registry.promote(model, version)
    assert [registry.rollback(model), registry.rollback(model)] == ["2", "1"]
    with pytest.raises(PackageError, match="nothing to roll back to"):
        registry.rollback(model)


def test_a_copy_of_a_version_or_a_model_is_neither_loaded_nor_promoted_nor_listed(
    make: Callable[..., ModelFolder], caplog: pytest.LogCaptureFixture
) -> None:
    model = make(GOOD)
    registry.promote(model, "1")
    shutil.copytree(model.version("1").path, model.version("2").path, copy_function=os.link)
    copied = ModelFolder.named(model.path.parent, "copied")
    shutil.copytree(model.path, copied.path, copy_function=os.link)
    verified.write_json(
        copied.promotions, {"promotions": [*registry.promotions(model), {"from": "1", "to": "2", "why": ""}]}
    )
    verified.write_text(copied.champion, "2\n")
    for verb in (
        lambda: registry.promote(model, "2", force=True),
        lambda: registry.promote(copied, "1", force=True),
        lambda: registry.rollback(copied),
        lambda: registry.load_champion(model.path.parent, "copied"),
    ):
        with pytest.raises(PackageError, match="is version 1 of 'tiny', and keeps that name"):
            verb()
    assert registry.champion_version(model) == "1"
    assert registry.champion_version(copied) == "2"
    listed = registry.list_models(model.path.parent)
    assert listed[["name", "version"]].to_numpy().tolist() == [["tiny", "1"]]
    assert caplog.text.count("left out: the package in") == 3


def test_rollback_refuses_a_damaged_package(make: Callable[..., ModelFolder]) -> None:
    model = make(GOOD, GOOD)
    for version in ("1", "2"):
        registry.promote(model, version)
    replace(model.version("1").fold_weights(0), b"damaged")
    with pytest.raises(PackageError, match="was changed"):
        registry.rollback(model)
    assert (registry.champion_version(model), events(model)) == ("2", [(None, "1"), ("1", "2")])


def die_before_moving_the_pointer(model: ModelFolder, step: Callable[[], str]) -> None:
    """Leave what a process killed between its event and the pointer would leave."""
    before = model.champion.read_bytes()
    step()
    verified.write_text(model.champion, before.decode())


def test_an_event_whose_process_died_before_it_moved_the_pointer_is_skipped(
    make: Callable[..., ModelFolder],
) -> None:
    model = make(GOOD, GOOD, GOOD, GOOD)
    for version in ("1", "2"):
        registry.promote(model, version)
    die_before_moving_the_pointer(model, lambda: registry.promote(model, "3"))
    assert registry.load_champion(model.path.parent, "tiny").version == "2"
    registry.promote(model, "4")
    die_before_moving_the_pointer(model, lambda: registry.rollback(model))
    assert [registry.rollback(model), registry.rollback(model)] == ["2", "1"]
    assert len(events(model)) == 7
    with pytest.raises(PackageError, match="nothing to roll back to"):
        registry.rollback(model)


def test_promotions_at_the_same_time_leave_a_valid_pointer_and_every_event(make: Callable[..., ModelFolder]) -> None:
    model = make(*[GOOD] * 8)
    processes = [start_process(registry.promote, model, version) for version in model.versions()]
    seen = set()
    while any(process.is_alive() for process in processes):
        seen.add(registry.champion_version(model))
        if model.promotions.exists():
            events(model)
        time.sleep(0.001)
    assert [process.exitcode for process in processes] == [0] * 8
    assert seen <= {None, *model.versions()}
    written = events(model)
    assert sorted(to for _, to in written) == model.versions()
    assert [before for before, _ in written] == [None, *(to for _, to in written[:-1])], "one after the other"
    assert registry.load_champion(model.path.parent, "tiny").version == written[-1][1]


def test_models_are_listed_with_their_champions(make: Callable[..., ModelFolder], run: Run) -> None:
    model = make(GOOD, BETTER)
    assert registry.list_models(model.path.parent / "nowhere").empty
    registry.promote(model, "2")
    table = registry.list_models(model.path.parent)
    columns = ["name", "version", "champion", "run", "made_at", "trainable", "size", "n_images", "roc_auc"]
    assert table.columns.tolist() == [*columns, "thresholds"]
    assert table[["name", "version", "champion"]].to_numpy().tolist() == [["tiny", "1", False], ["tiny", "2", True]]
    assert set(table["run"]) == {run.folder.run_id}
    images = files.read_table(run.folder.predictions)
    auc = roc_auc_score(images["label"] == "PNEUMONIA", images["probability_PNEUMONIA"])
    assert table["roc_auc"].tolist() == pytest.approx([100 * auc] * 2)


def cxr(*words: str, cwd: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "cxr", *words]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_verbs_package_promote_rollback_and_models_work_side_by_side(
    run: Run, original: PackageFolder, tmp_path: Path
) -> None:
    worse, again, new = (ModelFolder.named(tmp_path / "models", name) for name in ("worse", "again", "new"))
    for model, goodness in ((worse, GOOD), (worse, WORSE), (again, GOOD), (again, AS_GOOD)):
        add_version(model, original, separating(*goodness))
    for model, version in ((worse, "1"), (again, "1"), (again, "2")):
        registry.promote(model, version)
    words = {
        "package": [str(run.folder.path), "--name=new", "--operating-point=half", "--promote"],
        "promote": ["worse", "2"],
        "rollback": ["again"],
        "models": [],
    }
    processes = {verb: cxr(verb, *more, cwd=tmp_path) for verb, more in words.items()}
    output = {verb: process.communicate(timeout=120) for verb, process in processes.items()}
    codes = {verb: process.returncode for verb, process in processes.items()}
    assert codes == {"package": 0, "promote": 2, "rollback": 0, "models": 0}, output
    assert output["package"][0].splitlines()[:2] == ["version  1", f"package  {new.version('1').path}"]
    refusal = r"error: version 2 of worse does not become champion: ROC-AUC .*\. --force promotes it .*\n"
    assert re.fullmatch(refusal, output["promote"][1])
    assert output["rollback"][0] == "champion again 1\n"
    assert [registry.champion_version(model) for model in (worse, again, new)] == ["1", "1", "1"]
    rows = [line.replace("│", " ").split()[:3] for line in output["models"][0].splitlines() if "worse" in line]
    assert [(version, champion == "yes") for _, version, champion in rows] == [("1", True), ("2", False)]


@pytest.mark.parametrize("content", ["../other/1", "{models}/other/1", "", "1/../1", "\N{SUPERSCRIPT TWO}", "first"])
def test_a_champion_that_is_no_number_is_refused_and_replaced_by_force(
    make: Callable[..., ModelFolder], content: str
) -> None:
    model = make(GOOD)
    other = ModelFolder.named(model.path.parent, "other")
    shutil.copytree(model.version("1").path, other.version("1").path)
    registry.promote(model, "1")
    verified.write_text(model.champion, content.format(models=model.path.parent))
    for act in (lambda: registry.load_champion(model.path.parent, model.name), lambda: registry.promote(model, "1")):
        with pytest.raises(
            PackageError, match=r"champion' must hold the number of a version, got .*VERSION --force`\.$"
        ):
            act()
    registry.promote(model, "1", force=True)
    assert registry.champion_version(model) == "1"


@pytest.mark.parametrize("name", ["champion", "promotions.json"])
@pytest.mark.parametrize("content", [b"2\n", b"", b"\xff\xfe", None])
def test_a_damaged_file_of_the_registry_is_named_and_replaced_by_force(
    make: Callable[..., ModelFolder], name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(GOOD, AS_GOOD)
    registry.promote(model, "1")
    path = model.path / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=rf"{name}' .*: `cxr promote {model.name} VERSION --force`\.$"):
        registry.rollback(model)
    registry.promote(model, "2", force=True)
    assert f"{name}' " in caplog.text
    assert (registry.champion_version(model), registry.promotions(model)[-1]["to"]) == ("2", "2")
