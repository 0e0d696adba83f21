import json

from cxr.verdict import Finding, Verdict, format_value

HASH = "0123456789abcdef" * 4


def finding(*rows: dict[str, object], n_unexpected: int | None = None, **fields: object) -> Finding:
    given = {"expectation": "e", "column": "c", "severity": "critical", "passed": False, "sentence": "All is well."}
    counts = {"n_rows": 10, "n_unexpected": len(rows) if n_unexpected is None else n_unexpected}
    return Finding(**(given | counts | {"unexpected": list(rows)} | fields))


def test_examples_name_the_first_rows_and_count_the_others() -> None:
    rows = [{"path": f"a/{k}.jpeg", "value": 0.12345} for k in range(3)]
    assert finding(*rows).examples(2) == "a/0.jpeg (0.123), a/1.jpeg (0.123) and 1 more"
    assert finding(*rows, n_unexpected=1234).examples(1) == "a/0.jpeg (0.123) and 1,233 more"
    assert finding().examples(3) == ""


def test_a_value_that_is_already_a_name_or_adds_nothing_is_left_out() -> None:
    assert finding({"path": "a.jpeg", "value": "a.jpeg"}).examples(1) == "a.jpeg"
    assert finding({"path": "a.jpeg", "value": False}).examples(1) == "a.jpeg"
    assert finding({"path": "a.jpeg", "fold": None, "value": None}).examples(1) == "a.jpeg"
    assert finding({"value": "TUBERCULOSIS"}).examples(1) == "TUBERCULOSIS"


def test_a_content_hash_is_shortened() -> None:
    assert finding({"true_group": f"image:{HASH}", "value": 2}).examples(1) == "image:0123456789ab… (2)"


def test_format_value_keeps_three_digits_of_a_fraction_and_all_of_an_integer() -> None:
    assert [format_value(v) for v in (None, True, 12345, 0.98765, "x")] == ["", "", "12345", "0.988", "x"]


def test_a_verdict_survives_json() -> None:
    passed = finding(severity="info", passed=True)
    verdict = Verdict("manifest", "one row per image", "critical", [finding({"path": "a", "value": 1.5}), passed])
    again = Verdict.from_dict(json.loads(json.dumps(verdict.as_dict())))
    assert again == verdict
    assert again.failed("critical") == [verdict.findings[0]]
    assert again.failed("info") == []
