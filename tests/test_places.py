"""What is said of ranks by the places that they were last heard of in."""

import os
import platform
from dataclasses import replace

import pytest

from gan_mpi.clock import Whereabouts
from gan_mpi.runs import places
from gan_mpi.runs.places import (
    END,
    PLACES,
    Page,
    Place,
    by_page,
    end_of,
    folder_of,
    last_word,
    places_in,
    read_place,
    read_places,
    verdict,
    write_place,
)


def place(rank, step=3, player="D", phase="communication", waits=True):
    update = 2 * step
    return Place(rank, f"n{rank}", 100 + rank, 50, 3 * step, step, player, update, phase, waits)


@pytest.mark.parametrize(
    ("reached", "reported", "said"),
    [
        (
            [place(0), place(1, step=2, phase="forward"), place(2)],
            {0, 2},
            (
                "rank 1 on n1 (process 101) does not answer: it is suspended, or its node or its "
                "file system hangs; last heard of in forward of D update 4 (step 2)"
            ),
        ),
        (
            [place(0), place(2, step=4, waits=False), place(1, phase="", waits=False)],
            {0, 1, 2},
            "rank 1 on n1 (process 101) (and 1 more) does not move on from D update 6 (step 3)",
        ),
        (
            [place(0), place(1, phase="forward", waits=False), place(2)],
            {0, 1},
            "rank 1 on n1 (process 101) does not move on from forward of D update 6 (step 3)",
        ),
        (
            [place(0, step=4), place(1), place(2, step=4)],
            {0, 1, 2},
            (
                "rank 1 on n1 (process 101) waits in communication of D update 6 (step 3), and "
                "rank 2 on n2 (process 102) in communication of D update 8 (step 4)"
            ),
        ),
        (
            [place(0, phase="batch_norm_sums"), place(1, phase="batch_norm_sums")],
            {0, 1},
            (
                "all ranks wait for each other in batch norm sums of D update 6 (step 3); the "
                "network between n0 and n1 may be down"
            ),
        ),
    ],
)
def test_who_is_behind(reached, reported, said):
    assert verdict(reached, reported) == said


def test_places_are_read_as_they_were_written(tmp_path):
    assert end_of(tmp_path) == "" and places_in(tmp_path) == []
    folder, later = (folder_of(tmp_path, number) for number in (7, 12))
    folder.mkdir(parents=True)
    (tmp_path / PLACES / "notes").mkdir()
    write_place(folder, place(12, step=0, player="", phase="a phase with a long name"))
    write_place(folder, place(12, step=0, player="", phase="saving"))
    assert end_of(tmp_path) == (
        "ended without a word: last heard of rank 12 on n12 (process 112) in saving"
    )
    write_place(folder, place(3))
    (folder / "5").write_text('{"rank": 5, "host"')  # as it is being written
    (folder / "3.stacks").write_text("...")
    assert read_places(folder) == [place(3), place(12, step=0, player="", phase="saving")]
    assert read_place(folder, 5) is None and read_place(folder, 7) is None
    assert end_of(tmp_path) == (
        "ended without a word: last heard of rank 12 on n12 (process 112) in saving, and of rank 3 "
        "on n3 (process 103) in communication of D update 6 (step 3)"
    )
    later.mkdir()
    for rank in (0, 1):
        write_place(later, place(rank))
    assert end_of(tmp_path) == (
        "ended without a word: last heard of its 2 ranks in communication of D update 6 (step 3)"
    )
    assert last_word(tmp_path) == ""
    (later / END).write_text("hung: rank 3\n")
    assert end_of(tmp_path) == last_word(tmp_path) == "hung: rank 3"


def test_a_page_says_what_came_after_the_place(tmp_path):
    folder, here = folder_of(tmp_path, 1), Whereabouts()
    told = Place(0, platform.node(), os.getpid(), 7, 3, 2, "G", 2, "forward", False)
    assert by_page(folder, told) == told, "there is none"
    page = Page(folder, 0)
    try:
        here.moves = 10
        here.show_in(page.memory)
        here.begin_update(3, "D", 5)
        here.enter("batch_norm_sums")
        exact = Place(0, platform.node(), os.getpid(), 11, 1, 3, "D", 5, "batch_norm_sums", True)
        assert by_page(folder, told) == exact
        for other in ({"host": "n7"}, {"process": 1}, {"moves": 11}):
            place = replace(told, **other)
            assert by_page(folder, place) == place, "another's, or older"
        folder.mkdir(parents=True)
        write_place(folder, told)
        assert "in batch norm sums of D update 5 (step 3)" in end_of(tmp_path)
        page.path.write_bytes(b"")
        assert by_page(folder, told) == told, "as where there was no room for it"
        other, later = Page(folder, 1), Page(folder_of(tmp_path, 2), 0)
        assert later.path.exists() and not (page.path.exists() or other.path.exists())
        later.remove()
    finally:
        page.remove()


def test_without_shared_memory_there_is_no_page(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "NODE", tmp_path / "absent")
    page = Page(folder_of(tmp_path, 1), 0)
    Whereabouts().show_in(page.memory)
    page.remove()
    assert page.memory is None


def test_of_killed_ranks_that_is_named_first_which_did_not_wait(tmp_path):
    folder = folder_of(tmp_path, 1)
    folder.mkdir(parents=True)
    for each in (place(0), place(1, phase="backward", waits=False), place(2)):
        write_place(folder, each)
    assert end_of(tmp_path).startswith("ended without a word: last heard of rank 1 on n1")


def test_where_memory_is_full_no_page_is_left(tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places, "NODE", tmp_path)
    monkeypatch.setattr(places.os, "pwrite", no_room)
    assert Page(folder_of(tmp_path / "run", 1), 0).memory is None
    assert not [*tmp_path.iterdir()]
