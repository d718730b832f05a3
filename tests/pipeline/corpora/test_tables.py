"""Tables are read cell by cell, and every digit is kept."""

import datetime
import json
from decimal import Decimal

import pyarrow
import pytest
from pyarrow import parquet

from strata.pipeline.corpora.contract import CorpusError
from strata.pipeline.corpora.tables import number, numeric, read


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3", "", "-0.5", "1e2"], True),
        (["0", "0.25", "+7", "7.0"], True),
        (["9007199254740992", "2"], True),  # 2^53
        (["9007199254740993"], False),
        (["1234567890123456", "1234567890123457"], True),
        (["12345678901234561", "12345678901234562"], False),
        (["12345678901234567.0"], False),
        (["1e22"], True),
        (["1e23"], False),  # a whole number, and no float64
        (["6.02214076e23", "1"], False),
        (["0.1", "0.10000000000000001"], False),  # two that would be one
        (["0.10000000000000001", "0.29999999999999999"], True),
        (["3.14159265358979323846", "3.14159265358979323847"], False),
        (["1e5", "100000"], True),  # one number written in two ways
        (["007", "11"], False),
        (["-01"], False),
        (["nan", "1"], False),
        (["inf", "1"], False),
        (["1e999", "1"], False),
        (["1e-999", "1"], False),
        (["1e-99999999999999999999", "1"], False),
        (["1_000", "1"], False),
        (["١", "1"], False),
        (["five"], False),
        (["", ""], False),
    ],
)
def test_a_column_is_one_of_numbers_if_no_digit_is_lost(cells, expected):
    """Whole numbers have a float64 of their own, and no two different ones share one."""
    assert numeric(cells) is expected


def test_a_number_is_finite_and_not_lost():
    """What float64 cannot hold at all is no number."""
    assert [number(cell) for cell in ("0", "0.000", "-0e5", "1e-300")] == [0, 0, 0, 1e-300]
    assert [number(cell) for cell in ("1e-999", "-1e999", "0x10", "")] == [None] * 4


ROWS = [
    {"file_name": "a.wav", "age": 31, "mark": 0.5, "name": "007", "heard": True, "id": 12345678901234567890},
    {"file_name": "b.wav", "age": 7, "mark": 12.0, "name": "3", "heard": False, "id": 3},
    {"file_name": "c.wav", "age": None, "mark": None, "name": None, "heard": None, "id": None},
]
CELLS = [
    {"file_name": "a.wav", "age": "31", "mark": "0.5", "name": "007", "heard": "true", "id": "12345678901234567890"},
    {"file_name": "b.wav", "age": "7", "mark": "12.0", "name": "3", "heard": "false", "id": "3"},
    {"file_name": "c.wav", "age": "", "mark": "", "name": "", "heard": "", "id": ""},
]


def as_csv(path, rows):
    lines = [",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines))


def as_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def as_parquet(path, rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["id"] = pyarrow.array(columns["id"], pyarrow.uint64())
    parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_typed_formats_give_the_cells_of_a_csv_file(tmp_path, write):
    """Numbers digit by digit, and what is text there stays text."""
    path = tmp_path / f"metadata.{write.__name__.removeprefix('as_')}"
    write(path, ROWS)
    table = read(path)
    expected = [dict(cells) for cells in CELLS]
    if write is as_parquet:  # it has no spelling of numbers
        expected[1]["mark"] = "12"
    assert [row.cells for row in table.rows] == expected
    assert table.columns == list(ROWS[0])
    assert table.texts == {"file_name", "name"}
    assert [row.line for row in table.rows] == [1, 2, 3]
    as_csv(tmp_path / "metadata.csv", CELLS)
    assert [row.cells for row in read(tmp_path / "metadata.csv").rows] == CELLS


def test_json_numbers_as_they_are_written(tmp_path):
    """No digit goes through binary; NaN is nothing, Infinity is what it says."""
    path = tmp_path / "metadata.jsonl"
    path.write_text('\ufeff{"file_name": "a.wav", "x": 1.10000000000000000001, "y": NaN}\r\n\r\n{"x": -Infinity}\n')
    first, second = read(path).rows
    assert first.cells == {"file_name": "a.wav", "x": "1.10000000000000000001", "y": ""}
    assert (second.line, second.cells) == (3, {"x": "-Infinity"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{'file_name': 'b.wav'}", "expected one JSON object in a line, found"),
        ('["b.wav"]', "expected one JSON object in a line, found"),
        ('{"file_name": "b.wav", "age": 3, "age": 5}', "'age' stands there twice"),
        ('{"file_name": "\\ud800.wav"}', "surrogates not allowed"),
        ("[" * 100_000, "expected one JSON object in a line"),
    ],
)
def test_a_bad_line_of_json_costs_itself_alone(tmp_path, line, reason):
    """It is a row with a fault, told in one line, and has no say in what its columns hold."""
    path = tmp_path / "metadata.jsonl"
    path.write_text(f'{{"file_name": "a.wav"}}\n{line}\n{{"file_name": "c.wav"}}\n')
    rows = read(path).rows
    assert [row.cells.get("file_name") for row in rows] == ["a.wav", None, "c.wav"]
    assert reason in rows[1].fault
    assert len(rows[1].fault) < 300
    assert "\n" not in rows[1].fault


def test_what_is_no_label_is_left_out(tmp_path):
    """Lists, objects and bytes; dates and decimals are written out."""
    path = tmp_path / "metadata.parquet"
    columns = {
        "file_name": ["a.wav"],
        "vector": [[0.5, 0.25]],
        "audio": [b"RIFF"],
        "day": [datetime.date(1999, 12, 31)],
        "price": [Decimal("1234567890123456789.10")],
        "__index_level_0__": [5],
    }
    parquet.write_table(pyarrow.table(columns), path)
    table = read(path)
    assert table.nested == {"vector", "audio"}
    assert table.columns == ["file_name", "day", "price"]
    assert table.rows[0].cells == {"file_name": "a.wav", "day": "1999-12-31", "price": "1234567890123456789.10"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b"", "no header"),
        ("metadata.jsonl", b"[\n]\n", "line 1: expected one JSON object in a line, found '\\['"),
        ("metadata.jsonl", b"{}\n", "line 1: an object without columns"),
        ("metadata.jsonl", b'{"a": "sch\xf6n"}', r"not UTF-8 \(at byte 10\)"),
        ("metadata.parquet", b"PAR1 or not", "no Parquet file that can be read"),
        ("metadata.parquet", b"", "no Parquet file that can be read"),
    ],
)
def test_unreadable_tables(tmp_path, name, content, message):
    """Are told in one line that names them."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
