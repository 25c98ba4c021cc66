"""What can be asked of sites, and what is refused."""

import pytest
from click import BadParameter
from click.testing import CliRunner

from gan_mpi.cli import cli
from gan_mpi.config.resolve import new_config, resumed_config
from gan_mpi.config.values import block_momentum, round_length
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError
from gan_mpi.sites.build import turns_of_a_round


def test_rounds_and_momenta_as_they_are_written():
    assert round_length("20") == (20, False)
    assert round_length("0.5epoch") == (0.5, True)
    assert block_momentum("auto", 4) == 0.75
    assert block_momentum("0.9", 4) == 0.9
    config = new_config({"average": "weights", "batch": 8, "d_steps": 2})
    assert turns_of_a_round(config, 100, 8) == 7
    for wrong in ("0", "epoch", "-1epoch", "1.5", "x", "nan"):
        with pytest.raises(ValueError, match="neither a number of steps nor like"):
            round_length(wrong)
    for wrong in ("1", "-0.1", "nan", "x"):
        with pytest.raises(ValueError, match="not in the range"):
            block_momentum(wrong, 2)
    blocks = new_config({"average": "weights", "block_momentum": "auto"})
    assert blocks.optimizer_state == "reset"
    given = {"average": "weights", "block_momentum": "auto", "optimizer_state": "local"}
    again = {"block_momentum": "auto"}
    assert resumed_config(new_config(given), again).optimizer_state == "local"
    assert new_config({"preset": "federated", "average": "gradients"}).average == "gradients"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--every", "5"), "'--every': it is of rounds"),
        (("--optimizer-state", "reset"), "'--optimizer-state': it is of rounds"),
        (
            ("--datadir", "s-{rank}"),
            "'--datadir': s-{rank} gives each rank data of its own",
        ),
        (
            ("--average", "weights", "--every", "2h"),
            "'2h' is neither a number of steps nor like 1epoch",
        ),
        (
            ("--average", "weights", "--block-momentum", "1"),
            "'1' is not in the range 0<=x<1",
        ),
        (
            ("--average", "weights", "--log-format", "cntk"),
            "'--log-format': cntk tells of every minibatch",
        ),
        (
            (
                "--average",
                "weights",
                "--block-momentum",
                "--clip",
                "1",
                "--loss",
                "wasserstein",
            ),
            "'--block-momentum': it pushes weights beyond",
        ),
        (
            ("--average", "weights", "--explain"),
            "'--explain': it shows how gradients are summed",
        ),
        (("--average", "weights", "--overlap"), "'--overlap': it hides sums of gradients"),
        (
            ("--preset", "federated", "--datadir", "s-{rank}", "--evaluate-every", "5"),
            "'--evaluate-every': sites have no test images in common",
        ),
        (
            (
                "--average",
                "weights",
                "--optimizer-state",
                "average",
                "--schedule",
                "balance",
            ),
            "'--optimizer-state': average, but by --schedule balance",
        ),
    ],
)
def test_contradictions_are_refused(options, said):
    with pytest.raises((UserError, BadParameter)) as error:
        CliRunner().invoke(cli, ["train", *options], standalone_mode=False, catch_exceptions=False)
    assert said in getattr(error.value, "message", str(error.value)) + str(error.value)
    assert error.value.exit_code == 2


def test_a_folder_of_sites_is_none_of_data():
    with pytest.raises(UserError, match="names a folder for each site"):
        load_dataset(Source("site-{rank}"))
