from app.classify import loading
from app.classify.loading import LoadedModel
from app.server import Folders
from cxr.serving.predictor import Predictor


def test_a_model_is_loaded_once_for_all_visitors(folders: Folders, model: LoadedModel) -> None:
    assert loading.load_model(folders.models, "tiny", "1", folders.cache) is model
    assert model.is_ready.is_set()


def test_each_step_of_loading_is_reported_before_it_is_done(folders: Folders, model: LoadedModel) -> None:
    new = LoadedModel(model.package, Predictor(model.package, cache=folders.cache), model.reference)
    reported: list[tuple[float, str]] = []

    def report(share: float, text: str) -> None:
        assert not new.is_ready.is_set()
        reported.append((share, text))

    loading.prepare(new, report)
    assert new.is_ready.is_set()
    assert [share for share, _ in reported] == [0, 0.25, 0.5, 0.75]
    assert reported[1][1] == "Loading the model: reading the networks …"


def test_what_another_visitor_has_waited_for_is_not_done_again(model: LoadedModel) -> None:
    reported: list[str] = []
    loading.prepare(model, lambda _, text: reported.append(text))
    assert reported == ["Loading the model …"]
