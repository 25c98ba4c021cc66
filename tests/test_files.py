"""Lines that a crash cut off cost themselves alone."""

from typing import TypedDict

import pytest

from gan_mpi.errors import UserError
from gan_mpi.files import append_line
from gan_mpi.runs.records import fits, read_records, to_line


class Line(TypedDict, total=False):
    step: int
    loss: float
    each: list[float]
    more: dict[str, int | None]


def test_numbers_that_are_not_finite_are_not_written():
    nan, inf = float("nan"), float("inf")
    record = {"step": 1, "loss": nan, "each": [1.0, inf, 2.0], "more": {"a": -inf, "b": 1}}
    assert to_line(record) == '{"step": 1, "each": [1.0, 2.0], "more": {"b": 1}}'


def test_the_end_of_a_long_file_is_read_alone(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f'{{"step": {n}}}\n' for n in range(10_000)))
    last = read_records(path, Line, ["step"], 100)
    assert 2 <= len(last) <= 7 and last[-1] == {"step": 9999}


def test_types_of_records():
    assert fits({"a": [1, 2.5]}, dict[str, list[float]]) and fits(None, int | None)
    assert not fits({"a": [1, "x"]}, dict[str, list[float]]) and not fits(True, int)


def test_a_line_after_one_that_was_cut_off_is_read(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, '{"step": 1}')
    with path.open("a") as file:
        file.write('{"step": 2, "los')
    append_line(path, '{"step": 3}')
    append_line(path, '{"step": 4}')
    assert read_records(path, Line, ["step"]) == [{"step": 1}, {"step": 3}, {"step": 4}]


@pytest.mark.parametrize(
    "line",
    [
        *(b"[1]", b"\xff\xfe", b"17", b'{"step": "four"}', b'{"step": true}', b'{"step": null}'),
        *(b'{"step": 1e3}', b'{"loss": 1.0}', b'{"step": 1, "loss": NaN}', b"[" * 100_000),
        *(b'{"step": 1, "loss": "x"}', b'{"step": 1, "each": [1, "2"]}', b'{"step": 1e999}'),
        *(b'{"step": 1, "more": {"of": []}}', b"\0", b'{"step": 99999999999999999999}'),
    ],
)
def test_what_is_no_record_is_passed_over_which_is_said_once(tmp_path, line, capsys):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2, "loss": 3, "more": {"of": 1}}\n')
    for _ in range(2):
        assert [each["step"] for each in read_records(path, Line, ["step"])] == [1, 2]
    said = f"Warning: {path}: 1 line(s) cannot be read and are passed over\n"
    assert capsys.readouterr().err == said
    assert read_records(tmp_path / "absent.jsonl", Line, ["step"]) == []
    with pytest.raises(UserError, match=f"cannot read {tmp_path}: Is a directory"):
        read_records(tmp_path, Line, ["step"])
