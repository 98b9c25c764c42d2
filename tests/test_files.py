import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rnn_hf.files import LINE_LENGTH, json_text, write_json

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@given(values)
def test_a_value_comes_back_from_its_text_as_it_was(value: Any) -> None:
    assert json.loads(json_text(value)) == value


def test_keys_tuples_and_numbers_are_written_as_json_writes_them() -> None:
    value = {2: (2, 3.5), None: {"deep": [{}, [], ()]}, True: math.inf, "text": "[\n]é\ud800", "long": [0.1] * 99}
    assert json.loads(json_text(value)) == json.loads(json.dumps(value))
    assert math.isnan(json.loads(json_text({"loss": math.nan}))["loss"])


def test_an_object_that_is_longer_than_a_line_has_a_line_for_each_entry() -> None:
    text = json_text({"long": {str(key): key for key in range(99)}, "short": {"a": 1}})
    assert len(text.splitlines()) == 99 + 5
    assert max(map(len, text.splitlines())) <= LINE_LENGTH


def test_each_entry_of_a_list_is_one_line() -> None:
    rows = [{"name": "x" * 200, "inner": {"a": [1, 2]}}, [{}], 3]
    assert json_text({"rows": rows}).splitlines()[2:-2] == [
        f"    {json.dumps(row)}{comma}" for row, comma in zip(rows, (",", ",", ""), strict=True)
    ]


def test_a_list_of_numbers_is_one_line_of_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"rounds": [1.5, 2.5], "name": "x", "spread": {"min": 1, "max": 2}})
    assert (tmp_path / "x.json").read_text() == (
        '{\n  "rounds": [1.5, 2.5],\n  "name": "x",\n  "spread": {"min": 1, "max": 2}\n}\n'
    )
