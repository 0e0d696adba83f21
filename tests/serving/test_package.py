import dataclasses
import math
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cxr.classes import Classes
from cxr.errors import DamagedError, PackageError
from cxr.export.build import make_package
from cxr.metrics.calibration import Calibration
from cxr.network.resnet import Classifier, predict_logits
from cxr.serving.ensemble import Ensemble
from cxr.serving.package import Package, load_package
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import Run
from tests.support.packages import replace, sign
from tests.support.runs import Finished
from tests.support.shared import NewFolder

FILES = [
    "README.md",
    "images.parquet",
    "fold-0.safetensors",
    "fold-1.safetensors",
    "novelty.safetensors",
    "package.json",
    "shared.safetensors",
]


@pytest.fixture(scope="module")
def run(finished: Finished, weights_file: str) -> Run:
    """A finished run with a frozen trunk."""
    return finished(weights=weights_file, trainable="head")


@pytest.fixture(scope="module")
def original(run: Run, new_folder: NewFolder) -> PackageFolder:
    return make_package(run, ModelFolder.named(new_folder("models"), "tiny"))


@pytest.fixture
def folder(original: PackageFolder, tmp_path: Path) -> PackageFolder:
    """A copy of the package for a test to damage. Its files are hard links: replace them, never write to them."""
    copy = PackageFolder(tmp_path / "tiny" / "1")
    shutil.copytree(original.path, copy.path, copy_function=os.link)
    return copy


def test_the_files_that_are_damaged_here_are_all_there_are(original: PackageFolder) -> None:
    load_package(original)
    assert sorted(path.name for path in original.path.iterdir()) == sorted([*FILES, "SHA256SUMS"])


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_anywhere_is_refused(folder: PackageFolder, name: str) -> None:
    path = folder.path / name
    data = path.read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        replace(path, changed)
        with pytest.raises(PackageError, match=f"file '{name}' of package '.*/tiny/1' was changed: restore it"):
            load_package(folder)
    replace(path, data)
    load_package(folder)


@pytest.mark.parametrize("flipped", [0x01, 0x07, 0xFF])
def test_a_changed_byte_in_the_sums_is_refused(folder: PackageFolder, flipped: int) -> None:
    data = folder.checksums.read_bytes()
    line = data.index(b"\n")
    for at in (0, 63, 64, 66, line - 1, line, line + 1, len(data) - 2):
        changed = bytearray(data)
        changed[at] ^= flipped
        replace(folder.checksums, changed)
        with pytest.raises(PackageError, match=r"of package '.*/tiny/1'"):
            load_package(folder)


def test_empty_sums_are_refused(folder: PackageFolder) -> None:
    replace(folder.checksums, b"")
    with pytest.raises(PackageError, match="was added"):
        load_package(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(folder: PackageFolder, name: str) -> None:
    (folder.path / name).unlink()
    with pytest.raises(PackageError, match=f"file '{name}' of package .* is missing"):
        load_package(folder)


@pytest.mark.parametrize("name", ["model.py", ".hidden", "fold-2.safetensors", "a folder/with a file"])
def test_an_added_file_is_refused(folder: PackageFolder, name: str) -> None:
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).write_bytes(b"")
    with pytest.raises(PackageError, match=f"file '{name.split('/', maxsplit=1)[0]}' of package .* was added"):
        load_package(folder)


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["shared.safetensors", "fold-1.safetensors", "novelty.safetensors"])
def test_a_pickle_in_place_of_weights_is_refused_and_never_run(folder: PackageFolder, name: str) -> None:
    marker = folder.path.parent / "the code was run"
    payload = pickle.dumps(Payload(marker))
    pickle.loads(payload)  # noqa: S301 it does what is feared
    marker.unlink()
    replace(folder.path / name, payload)
    with pytest.raises(PackageError, match=f"file '{name}' of package .* was changed"):
        load_package(folder)
    sign(folder)
    package = load_package(folder)
    with pytest.raises((PackageError, SafetensorError)):  # whoever signs a pickle does not get it run either
        package.novelty() if name.startswith("novelty") else package.networks.model(1)
    assert not marker.exists()


@pytest.mark.parametrize("version", ["2", "nowhere", "1/README.md"])
def test_an_unknown_version_is_reported_in_one_sentence(folder: PackageFolder, version: str) -> None:
    unknown = ModelFolder(folder.path.parent).version(version)
    with pytest.raises(PackageError, match=r"^no model in '[^\n]*': `cxr models` lists the models\.$"):
        load_package(unknown)


def test_a_package_of_a_later_cxr_is_refused(folder: PackageFolder) -> None:
    files.write_json(folder.description, files.read_json(folder.description) | {"format": 5})
    sign(folder)
    with pytest.raises(PackageError, match="has package format 5, this cxr reads 3 and 4: package the run again"):
        load_package(folder)


@pytest.mark.parametrize("place", ["tiny-2026/1", "Tiny/1", "tiny/2", "tiny/01"])
def test_a_package_in_a_folder_of_another_name_or_version_than_its_own_is_refused(
    folder: PackageFolder, tmp_path: Path, place: str
) -> None:
    moved = tmp_path / "models" / place
    moved.parent.mkdir(parents=True)
    folder.path.rename(moved)
    with pytest.raises(
        PackageError, match=r"is version 1 of 'tiny', and keeps that name: move .*/1, .*\(`cxr package "
    ):
        load_package(PackageFolder(moved))
    back = tmp_path / "elsewhere" / "tiny" / "1"
    back.parent.mkdir(parents=True)
    moved.rename(back)
    assert load_package(PackageFolder(back)).name == "tiny"


def with_classes(folder: PackageFolder, classes: list[str], bias: tuple[float, ...], **fields: object) -> Package:
    package = load_package(folder)
    return dataclasses.replace(package, outputs=Classes(classes), calibration=Calibration(2.0, bias), **fields)


def test_the_probability_is_the_mean_of_the_calibrated_folds(original: PackageFolder) -> None:
    by_fold = np.array(
        [[[0.8, 0.2], [0.5, 0.5], [0.31, 0.69]], [[0.4, 0.6], [0.1, 0.9], [0.31, 0.69]]],
    )  # what temperature 2 and biases ±0.5 have to make of the logits
    logits = 2 * (np.log(by_fold) - [0.5, -0.5]) + np.array([[[3.0]], [[-7.0]]])
    thresholds = {"half": 0.5, "youden": 0.695}
    package = with_classes(original, ["N", "P"], (0.5, -0.5), thresholds=thresholds, operating_point="youden")
    probability, spread, predicted = package.predict(logits)
    np.testing.assert_allclose(probability, [[0.6, 0.4], [0.3, 0.7], [0.31, 0.69]], atol=1e-12)
    np.testing.assert_allclose(spread, [0.4, 0.4, 0.0], atol=1e-12)
    assert predicted.tolist() == ["N", "P", "N"]
    half = dataclasses.replace(package, operating_point="half")
    assert half.predict(logits)[2].tolist() == ["N", "P", "P"]
    exactly = dataclasses.replace(package, thresholds={"youden": float(probability[2, 1])})
    assert exactly.predict(logits)[2].tolist() == ["N", "P", "P"], "from the threshold up"


def test_the_likeliest_of_three_classes_is_predicted_and_the_spread_is_the_largest_of_any_class(
    original: PackageFolder,
) -> None:
    by_fold = np.array([[[0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1]], [[0.4, 0.3, 0.3]]])
    package = with_classes(original, ["A", "B", "C"], (0.0, 0.0, 0.0), thresholds={})
    probability, spread, predicted = package.predict(2 * np.log(by_fold))
    np.testing.assert_allclose(probability, [[0.4, 0.3, 0.3]], atol=1e-12)
    np.testing.assert_allclose(spread, [0.4], atol=1e-12)
    assert predicted.tolist() == ["A"]


def test_a_package_answers_as_the_folds_it_was_made_of(run: Run, original: PackageFolder, tmp_path: Path) -> None:
    squares = run.squares(run.images().head(10))
    package = load_package(original)
    ensemble = Ensemble(package.networks, device="cpu", arithmetic="fp32", n_images=10, compile="off", cache=tmp_path)
    for fold, logits in enumerate(ensemble.run(squares)[0]):
        model = Classifier(2)
        model.load_state_dict(load_file(run.folder.fold(fold).weights))
        np.testing.assert_allclose(logits, predict_logits(model, squares, "cpu"), atol=1e-4)


@pytest.mark.parametrize(("difference", "is_allowed"), [(0.0, True), (0.01, True), (0.0101, False)])
def test_bfloat16_is_allowed_if_it_moved_no_probability_by_more_than_a_hundredth(
    original: PackageFolder, difference: float, is_allowed: bool
) -> None:
    package = load_package(original)
    facts = package.facts | {"bfloat16": {"largest_probability_difference": difference, "n_images": 64}}
    package = dataclasses.replace(package, facts=facts)
    assert (package.bf16_difference, package.allows_bf16) == (difference, is_allowed)


def test_packages_of_other_weights_or_thresholds_have_other_identities(folder: PackageFolder) -> None:
    before = load_package(folder).identity
    files.write_json(folder.description, files.read_json(folder.description) | {"operating_point": "half"})
    sign(folder)
    assert load_package(folder).identity != before


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"thresholds": {"half": 0.5, "youden": 7, "sensitivity_95": 0.1, "specificity_95": 0.9}}, "thresholds is out"),
        (
            {"thresholds": {"half": 0.5, "youden": math.nan, "sensitivity_95": 0, "specificity_95": 0}},
            "thresholds is out",
        ),
        (
            {"thresholds": {"half": -0.1, "youden": 0.5, "sensitivity_95": 0.1, "specificity_95": 0.9}},
            "thresholds is out",
        ),
        ({"thresholds": {"half": 0.5}}, "KeyError 'youden'"),
        ({"thresholds": None}, "TypeError"),
        ({"operating_point": "best"}, "operating_point is out"),
        ({"calibration": {"temperature": 0, "bias": [0, 0]}}, "temperature is out"),
        ({"calibration": {"temperature": math.nan, "bias": [0, 0]}}, "temperature is out"),
        ({"calibration": {"temperature": 1, "bias": [0, math.inf]}}, "bias is out"),
        ({"calibration": {"temperature": 1, "bias": [0]}}, "bias is out"),
        ({"calibration": {}}, "KeyError 'temperature'"),
        ({"classes": ["A"]}, "classes is out"),
        ({"classes": ["A", "A"]}, "classes is out"),
        ({"classes": 7}, "TypeError"),
        ({"size": 0}, "size is out"),
        ({"size": "224"}, "size is out"),
        ({"n_folds": 1.5}, "n_folds is out"),
        ({"trainable": "tail"}, "trainable is out"),
        ({"bfloat16": {"largest_probability_difference": math.nan}}, "bfloat16 is out"),
    ],
)
def test_a_package_without_sense_is_refused_though_its_sums_are_right(
    folder: PackageFolder, fields: dict[str, object], fault: str
) -> None:
    files.write_json(folder.description, files.read_json(folder.description) | fields)
    sign(folder)
    with pytest.raises(
        PackageError, match=rf"package\.json' makes no sense \({fault}[^\n]*\): package the run again\.$"
    ):
        load_package(folder)


def test_probabilities_that_are_no_numbers_are_refused(original: PackageFolder) -> None:
    logits = np.zeros((2, 3, 2))
    package = load_package(original)
    assert package.predict(logits)[0].shape == (3, 2)
    for value in (math.nan, math.inf):
        logits[1, 2, 0] = value
        with pytest.raises(PackageError, match="tiny version 1 gives probabilities that are no numbers"):
            package.predict(logits)


def test_weights_that_do_not_fit_are_refused_though_their_sums_are_right(folder: PackageFolder) -> None:
    state = load_file(folder.fold_weights(1))
    replace(folder.fold_weights(1), save({name: tensor[:1] for name, tensor in state.items()}))
    sign(folder)
    with pytest.raises(PackageError, match=r"the weights in '.*/tiny/1' do not fit its network"):
        load_package(folder).networks.model(1)


def test_a_file_that_changed_after_the_package_was_loaded_is_not_used(folder: PackageFolder) -> None:
    package = load_package(folder)
    replace(folder.images, folder.images.read_bytes()[:-1])
    replace(folder.novelty, b"")
    with pytest.raises(DamagedError, match=r"images\.parquet' was changed .* package the run again"):
        package.images()
    with pytest.raises(DamagedError, match=r"novelty\.safetensors' is empty: .* package the run again"):
        package.novelty()


@pytest.mark.parametrize("limit", [-1.0, 0.0, math.inf, "far"])
def test_a_limit_of_novelty_that_makes_no_sense_is_refused(folder: PackageFolder, limit: object) -> None:
    facts = files.read_json(folder.description)
    files.write_json(folder.description, facts | {"novelty": facts["novelty"] | {"limit": limit}})
    sign(folder)
    with pytest.raises(PackageError, match="makes no sense"):
        load_package(folder)


def test_a_package_from_before_there_was_a_limit_of_novelty_has_none(folder: PackageFolder) -> None:
    assert load_package(folder).novelty_limit is not None
    facts = files.read_json(folder.description)
    files.write_json(folder.description, {name: value for name, value in facts.items() if name != "novelty"})
    sign(folder)
    assert load_package(folder).novelty_limit is None
