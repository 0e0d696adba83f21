import jsonschema
import pytest

from cxr.endpoint import openapi
from cxr.endpoint.bodies import FORM_TYPE, IMAGE_TYPES
from cxr.serving.package import Package


def test_a_body_is_one_image_of_a_known_type_or_a_form_with_no_more_than_are_taken() -> None:
    for most, n_right, n_wrong in ((3, 3, 4), (3, 1, 0)):
        content = openapi.body("images", most)["requestBody"]["content"]
        assert list(content) == [FORM_TYPE, *IMAGE_TYPES]
        form = content[FORM_TYPE]["schema"]
        jsonschema.validate({"images": ["x"] * n_right}, form)
        jsonschema.validate({"images": [""]}, form)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate("", content["image/png"]["schema"])
        for wrong in ({"images": ["x"] * n_wrong}, {"image": ["x"]}, {"images": ["x"], "more": "x"}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, form)
    single = openapi.body("image", 1)["requestBody"]["content"][FORM_TYPE]["schema"]
    jsonschema.validate({"image": "x"}, single)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"image": ["x"]}, single)


def test_every_refusal_is_one_sentence_and_its_example_keeps_to_the_schema() -> None:
    described = openapi.refusals(*openapi.REFUSALS)
    assert list(described) == [400, 401, 408, 413, 415, 422, 429]
    for answer in described.values():
        content = answer["content"]["application/json"]
        jsonschema.validate(content["example"], content["schema"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"detail": 1}, content["schema"])


def test_predictions_have_a_row_for_each_image_with_numbers_where_the_scores_have_them(package: Package) -> None:
    schema = openapi.predicted(package)[200]["content"]["application/json"]["schema"]
    image = schema["properties"]["images"]["items"]
    kinds = {name: column["type"] for name, column in image["properties"].items()}
    assert kinds["probability_NORMAL"] == kinds["fold_spread"] == ["number", "null"]
    assert kinds["in_training"] == ["boolean", "null"]
    assert (kinds["n_bytes"], kinds["width"]) == (["integer", "null"], ["integer", "null"])
    assert kinds["path"] == kinds["scored_at"] == ["string", "null"]
    assert image["required"] == list(kinds)


def test_a_token_is_asked_for_everywhere_but_at_the_health_check(package: Package) -> None:
    def schema() -> dict:
        explain = {"parameters": [{"name": "class", "schema": {}}, {"name": "opacity", "schema": {"type": "number"}}]}
        predict = {"responses": {"200": {"content": {"application/json": {}}}}}
        return {"paths": {"/predict": {"post": predict}, "/explain": {"post": explain}, "/health": {"get": {}}}}

    guarded, open_to_all = schema(), schema()
    openapi.complete(guarded, package, {"path": "a.png"}, has_token=True)
    openapi.complete(open_to_all, package, {"path": "a.png"}, has_token=False)
    assert guarded["security"] == [{"token": []}]
    assert guarded["paths"]["/health"]["get"]["security"] == []
    assert guarded["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    assert not {"security", "components"} & set(open_to_all)
    of_class, opacity = guarded["paths"]["/explain"]["post"]["parameters"]
    assert of_class["schema"]["enum"] == ["NORMAL", "PNEUMONIA"]
    assert opacity["schema"] == {"type": "number"}
    example = guarded["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert example["images"][0]["path"] == "a.png"
