import pickle
from pathlib import Path

import pytest

from cxr.errors import ConfigError, RunError
from cxr.storage.run_folder import ExplanationFolder, RunFolder


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 81, "a\nb"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="--run-id"):
        RunFolder.named(tmp_path, run_id)


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run 'nowhere'"):
        RunFolder.existing("nowhere", tmp_path)


def test_a_run_is_found_by_its_id_and_by_the_path_of_its_folder(tmp_path: Path) -> None:
    folder = RunFolder.named(tmp_path / "experiments", "first")
    assert not folder.has_begun
    folder.path.mkdir(parents=True)
    folder.config.write_text("{}")
    assert RunFolder.existing("first", tmp_path / "experiments") == folder
    assert RunFolder.existing(str(folder.path), tmp_path / "elsewhere") == folder
    assert (folder.run_id, folder.has_begun) == ("first", True)


def test_a_lock_is_beside_the_run_so_that_deleting_the_run_leaves_it(tmp_path: Path) -> None:
    folder = RunFolder.named(tmp_path, "first")
    assert not folder.lock.is_relative_to(folder.path)


def test_folds_of_a_learning_curve_are_apart_from_those_of_the_run() -> None:
    folder = RunFolder(Path("run"))
    assert folder.fold(3).weights == Path("run/folds/fold=3/weights.safetensors")
    assert folder.fold_of_share(0.5, 3).complete == Path("run/learning_curve/share=0.5/fold=3/complete.json")


def test_external_test_sets_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    tests = [folder.external_test(Path(data)) for data in ("a/images.zip", "b/images.zip", "images of ward 3?")]
    assert len({test.path for test in tests}) == 3
    assert all(test.path.name.startswith("images-") for test in tests)
    assert folder.external_test(Path("a/images.zip")) == tests[0]
    assert folder.external_tests() == []
    tests[1].path.mkdir(parents=True)
    tests[1].openings.write_text("{}")
    assert folder.external_tests() == [tests[1]]


def test_a_folder_is_a_value_that_processes_can_hand_on() -> None:
    folder = RunFolder(Path("run"))
    assert pickle.loads(pickle.dumps(folder)) == folder  # noqa: S301 made on the line itself
    assert len({folder, RunFolder(Path("run"))}) == 1


def test_a_picture_has_a_plain_name_whatever_the_image_is_called() -> None:
    picture = ExplanationFolder(Path("out")).picture(7, "../Röntgen <1>" + "x" * 100)
    assert picture.parent == Path("out")
    assert picture.name.startswith("007--R-ntgen-1-x")
    assert len(picture.name) == len("007-") + 80 + len(".png")
