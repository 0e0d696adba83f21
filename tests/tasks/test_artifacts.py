import json

import numpy as np
import pandas as pd
import pytest
from prefect.client.schemas.actions import ArtifactCreate

from tasks.artifacts import artifact_key, table_rows


@pytest.mark.parametrize(
    ("name", "key"),
    [("run", "run"), ("Kaggle_5x.v2", "kaggle-5x-v2"), ("all-224px-1a2b", "all-224px-1a2b"), ("a.", "a")],
)
def test_a_key_is_one_that_prefect_takes(name: str, key: str) -> None:
    assert artifact_key(name) == key
    ArtifactCreate(key=f"report-{key}", type="markdown", data="")  # raises on a key that it refuses


def test_a_tables_rows_are_plain_json_with_none_where_a_value_is_missing() -> None:
    table = pd.DataFrame({"metric": ["f1", None], "value": [0.5, np.nan], "n": [3, 4]})
    rows = table_rows(table)
    assert rows == [["metric", "value", "n"], ["f1", 0.5, 3], [None, None, 4]]
    assert json.loads(json.dumps(rows)) == rows
