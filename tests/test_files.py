"""Lines that a crash cut off cost themselves alone."""

import pytest

from gan_mpi.errors import UserError
from gan_mpi.files import append_line, read_lines


def test_a_line_after_one_that_was_cut_off_is_read(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, '{"step": 1}')
    with path.open("a") as file:
        file.write('{"step": 2, "los')
    append_line(path, '{"step": 3}')
    append_line(path, '{"step": 4}')
    assert read_lines(path) == [{"step": 1}, {"step": 3}, {"step": 4}]


def test_what_is_no_object_is_passed_over(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n[1]\n\xff\xfe\n17\n{"step": 2}\n')
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    assert read_lines(tmp_path / "absent.jsonl") == []
    with pytest.raises(UserError, match=f"cannot read {tmp_path}: Is a directory"):
        read_lines(tmp_path)
