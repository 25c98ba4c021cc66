"""One data set divided among sites."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_glyphs

from gan_mpi.cli import cli
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.drawn import draw_glyphs
from gan_mpi.datasets.find import load_dataset
from gan_mpi.datasets.npz import bytes_of
from gan_mpi.errors import UserError
from gan_mpi.sites.split import divide


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
def test_split_deals_each_image_to_one_site(skew):
    dataset = load_dataset(Source(glyphs=400))
    parts = divide(dataset, 2, skew, 0, 10)
    assert sorted(np.concatenate(parts)) == list(range(400))
    shares = [
        np.isin(dataset.labels[rows], range(5 * s, 5 * s + 5)).mean()
        for s, rows in enumerate(parts)
    ]
    assert shares == pytest.approx([0.5 + skew / 2] * 2, abs=0.03)
    assert abs(len(parts[0]) - 200) <= 20
    assert [list(p) for p in divide(dataset, 2, skew, 0, 10)] == [list(p) for p in parts]
    other = [list(p) for p in divide(dataset, 2, skew, 1, 10)]
    assert (other == [list(p) for p in parts]) == (skew == 1.0)


def test_each_class_is_at_home_where_it_should_be_at_any_number_of_sites():
    dataset = load_dataset(Source(glyphs=200))
    for sites in (30, 300):
        parts = divide(dataset, sites, 1.0, 0, 10)
        homes = {label: site for site, rows in enumerate(parts) for label in dataset.labels[rows]}
        assert homes == {label: label * sites // 10 for label in range(10)}


def test_split_writes_the_folders_of_sites(tmp_path):
    write_glyphs(tmp_path / "all", 0, 60, tests=20)
    words = ["data", "split", str(tmp_path / "all"), str(tmp_path / "out")]

    def split(*more):
        return CliRunner().invoke(
            cli, [*words, *more], standalone_mode=False, catch_exceptions=False
        )

    said = split("--sites", "3", "--skew", "1").output.splitlines()
    assert len(said) == 3
    assert said[0].startswith(f"{tmp_path / 'out' / 'site-0'}: ")
    labels = set()
    for site in range(3):
        source = Source(str(tmp_path / "out" / f"site-{site}"))
        dataset = load_dataset(source)
        assert labels.isdisjoint(dataset.labels)
        assert set(load_dataset(source, "test").labels) <= set(dataset.labels)
        labels |= set(dataset.labels)
    assert labels == set(range(10))
    with pytest.raises(UserError, match="exists; give another folder"):
        split("--sites", "3")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UserError, match="leave some of 61 sites without any"):
        split("--sites", "61")
    with pytest.raises(UserError, match="of 10 classes leave some of 11 sites"):
        split("--sites", "11", "--skew", "1")
    images = draw_glyphs(10)[0]
    (tmp_path / "all" / "train.npz").write_bytes(bytes_of(images, None))
    with pytest.raises(UserError, match="--skew: .*train.npz has no labels"):
        split("--sites", "2", "--skew", "1")
    assert not (tmp_path / "out").exists()
