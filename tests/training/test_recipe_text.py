from cxr.config import TrainConfig
from cxr.training.recipe_text import command_of, recipe_sentences


def test_a_recipe_says_what_its_views_are_and_how_many_epochs_have_half_the_side() -> None:
    plain = TrainConfig(data="images", weights="none", epochs=10)
    text = " ".join(recipe_sentences(plain))
    assert "10 epochs, fixed in advance; batches" in text
    assert "1 epoch, fixed" in " ".join(recipe_sentences(TrainConfig(data="images", weights="none", epochs=1)))
    assert "views" not in text
    assert "corners" not in text
    changed = TrainConfig(data="images", weights="none", epochs=10, progressive=0.3, test_views="zoom")
    text = " ".join(recipe_sentences(changed))
    assert "10 epochs, fixed in advance, the first 3 of them on half the side; batches" in text
    assert "is evaluated; logits are averaged over the image and its four corners at 90% of the side." in text


def test_the_command_of_a_run_names_the_fields_that_older_runs_lack() -> None:
    config = TrainConfig(data="images", weights="none", progressive=0.3, test_views="zoom")
    assert command_of(config, "first") == (
        "cxr train --data images --weights none --test-views zoom --progressive 0.3 --run-id first"
    )
