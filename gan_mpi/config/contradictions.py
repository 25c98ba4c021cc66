"""Options that contradict each other, refused in a sentence before anything is done."""

from dataclasses import fields

from gan_mpi.config.given import Given, text_of
from gan_mpi.config.optimizer import OPTIMIZERS, RATES, OptimizerConfig
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import WITHOUT_TARGETS, TrainConfig
from gan_mpi.config.values import RANK, is_adaptive, is_ramp
from gan_mpi.errors import invalid_value

# Options of one player besides its optimizer's.
OF_PLAYER = {
    "G": ("g_steps", "g_latents", "ema"),
    "D": ("d_steps", "d_update", "r1", "r2", "gradient_penalty", "penalty_every", "clip", "replay")
    + ("real_targets", "fake_targets", "flip"),
}
TURN = ("d_steps", "g_steps", "first", "g_latents")  # options of --schedule steps

# What sites cannot have, and why.
NOT_BY_SITES = {
    "explain": "it shows how gradients are summed, and --average weights sums none",
    "on_nan": "it takes all ranks back at once, and with --average weights a site diverges alone",
    "overlap": "it hides sums of gradients, and --average weights sums none",
    "graphs": "it is for one rank, and --average weights for several",
    "cuda_aware": "it is for sums of gradients, and --average weights sums none",
    "inject": "it counts steps, and --average weights goes by rounds",
}


def option_names(player: str, name: str) -> tuple[str, str]:
    """Return the parameter names that set `name` of one player: its own, and the shared one."""
    return f"{player.lower()}_{name}", name


def check_schedule(config: TrainConfig, given: Given) -> None:
    """Refuse options of the schedule that contradict each other."""
    if config.schedule == "balance" and config.train != "both":
        raise invalid_value(
            "train",
            f"{config.train}, but --schedule balance chooses who is trained; it needs both",
        )
    unused = [name for name in TURN if name in given]
    if config.schedule == "balance" and unused:
        raise invalid_value(
            unused[0],
            "--schedule balance decides by itself who is trained in a step; leave it out, or "
            "give --schedule steps",
        )
    if "kimg" in given and not config.images_per_step:
        raise invalid_value(
            "kimg",
            "--train generator consumes no real images; give --steps",
        )


def chosen_optimizer(config: TrainConfig, given: Given, player: str) -> str:
    """Return the optimizer that a player has with the options given."""
    own, shared = option_names(player, "optimizer")
    return str(given.get(own, given.get(shared, getattr(config, player).optimizer)))


def check_uses(config: TrainConfig, given: Given) -> None:
    """Refuse a rate or momentum that none of the optimizers it is meant for would use."""
    for name in RATES:
        for option, players in ((name, "GD"), (f"g_{name}", "G"), (f"d_{name}", "D")):
            kinds = sorted({chosen_optimizer(config, given, player) for player in players})
            if option in given and not any(name in OPTIMIZERS[kind] for kind in kinds):
                users = " and ".join(kind for kind in OPTIMIZERS if name in OPTIMIZERS[kind])
                raise invalid_value(
                    option,
                    f"{' and '.join(kinds)} has no {name}; it is for {users}",
                )


def check_effect(config: TrainConfig, given: Given) -> None:
    """Refuse options of a new run that would do nothing; one that goes on may have them."""
    if given.get("g_latents") == "repeated" and config.g_steps == 1:
        raise invalid_value(
            "g_latents", "repeated, but G is updated once a step; leave it out, or give --g-steps 2"
        )
    if "ramp_steps" in given and not config.ramps:
        raise invalid_value(
            "ramp_steps",
            "no setting goes from one number to another; leave it out, or give one "
            "as FROM:TO, such as --r1 0.05:0.005",
        )
    if "augment_probability" in given and config.augment == "no":
        raise invalid_value(
            "augment_probability", "nothing is augmented; leave it out, or give --augment"
        )
    if "augment_probability" in given and is_adaptive(config.augment):
        raise invalid_value(
            "augment_probability",
            f"--augment {config.augment} finds its own; leave one out",
        )
    for name in ("width", "blocks"):
        if name in given and config.network != "modern":
            raise invalid_value(
                name, f"it is of --network modern, and this is {config.network}; leave it out"
            )
    if config.average == "weights" and given.get("batch_norm") == "local":
        raise invalid_value(
            "batch_norm",
            "local, as it always is between the rounds of --average weights; leave it out",
        )
    _check_idle(config, given)
    if "penalty_every" in given and not (config.gradient_penalty or config.r1 or config.r2):
        raise invalid_value(
            "penalty_every", "there is no penalty; leave it out, or give --r1, --r2 or another"
        )


def _check_idle(config: TrainConfig, given: Given) -> None:
    """Refuse options of a player that is not trained."""
    if config.train == "both":
        return
    idle, what = ("D", "discriminator") if config.train == "generator" else ("G", "generator")
    names = [f"{idle.lower()}_{each.name}" for each in fields(OptimizerConfig)]
    for name in (*names, *OF_PLAYER[idle]):
        if name in given and given[name] != getattr(TrainConfig, name, None):
            raise invalid_value(
                name, f"--train {config.train} trains no {what}, whose option it is; leave it out"
            )


def check_evaluation(options: RunConfig, given: Given) -> None:
    """Refuse options of evaluations where there are none."""
    unused = [name for name in ("samples", "classifier") if name in given]
    if unused and options.evaluate_every is None:
        raise invalid_value(
            unused[0],
            "it is of evaluations, and this run makes none; give --evaluate-every STEPS, or use "
            "gan-mpi evaluate afterwards",
        )


def check_checkpoints(options: RunConfig, given: Given) -> None:
    """Refuse a time between failures where nothing depends on it."""
    if "mtbf" in given and options.checkpoint_every != "auto":
        raise invalid_value("mtbf", "it is for --checkpoint-every auto, which was not given")


def check_failure(config: TrainConfig, options: RunConfig) -> None:
    """Refuse to go on without a rank where more than its share of the work is gone with it."""
    half_chosen = config.schedule == "balance" and config.d_update == "separate"
    reasons = (
        (half_chosen, "--schedule balance", "a step cannot begin again within an update"),
        (config.replay, "--replay", "its part of the old fakes is gone with a rank"),
        (config.average == "weights", "--average weights", "its data are gone with a site"),
        (config.batch_norm == "local", "--batch-norm local", "of fewer ranks other images come"),
        (options.explain, "--explain", "it follows ranks that stay"),
        (options.cuda_aware, "--cuda-aware", "MPI may not let go of a GPU's memory then"),
    )
    for is_given, name, why in reasons:
        if is_given and options.on_failure != "abort":
            raise invalid_value("on_failure", f"{options.on_failure}, but {why} ({name})")


def check_beyond(config: TrainConfig) -> None:
    """Refuse combinations of what the originals had not that mean nothing."""
    if config.loss == "relativistic":
        _check_pairs(config)
    for settings in (config.G, config.D):
        if is_ramp(settings.lr) and settings.lr_schedule != "constant":
            raise invalid_value(
                "lr_schedule",
                f"{settings.lr_schedule}, but the learning rate goes {settings.lr} already; give "
                "constant, or one number as the rate",
            )
    if is_ramp(config.ema) and config.schedule == "balance":
        raise invalid_value(
            "ema",
            f"{config.ema}, but by --schedule balance nobody knows how often G is updated; give "
            "one number",
        )
    if is_adaptive(config.augment) and (
        config.loss == "wasserstein" or config.train == "generator"
    ):
        idle = config.train == "generator"
        why = (
            "D, which is not trained, tells nothing new"
            if idle
            else "heights of a critic have no sign"
        )
        raise invalid_value(
            "augment",
            f"{config.augment}, but {why}; leave adaptive out, or give --augment-probability",
        )
    if config.told and config.loss in WITHOUT_TARGETS:
        raise invalid_value(
            config.told[0],
            f"--loss {config.loss} has no targets; leave it out, or "
            "take a cross-entropy loss or least-squares",
        )
    if config.clip and config.loss != "wasserstein":
        raise invalid_value(
            "clip",
            f"it bounds the slope of D for --loss wasserstein, not for {config.loss}; leave it out",
        )
    bounds = (config.clip, config.gradient_penalty, config.d_norm == "spectral")
    if config.loss == "wasserstein" and config.train != "generator" and not any(bounds):
        raise invalid_value(
            "loss",
            "wasserstein needs a D of bounded slope; give --gradient-penalty 10, --clip 0.01 or "
            "--d-norm spectral",
        )
    if config.gradient_penalty and config.d_update == "separate":
        raise invalid_value(
            "gradient_penalty",
            "it is taken between reals and fakes, and D learns "
            "from one or the other; give --d-update joint",
        )


def _check_pairs(config: TrainConfig) -> None:
    """Refuse what a loss of pairs of a real and a fake cannot have."""
    for name, value, why, otherwise in (
        ("schedule", "balance", "has one loss for both, not two", "steps"),
        ("d_update", "separate", "compares reals with fakes", "joint"),
    ):
        if getattr(config, name) == value:
            raise invalid_value(name, f"{value}, but --loss relativistic {why}; give {otherwise}")
    if config.replay:
        raise invalid_value(
            "replay",
            f"{config.replay}, but --loss relativistic compares each real with a new fake; give 0",
        )


def check_sites(config: TrainConfig, given: Given) -> None:
    """Refuse options of sites without sites, and what sites cannot have."""
    by_sites = config.average == "weights"
    own_data = RANK in (text_of(given, "datadir") or "")
    for name in ("every", "optimizer_state", "block_momentum"):
        if name in given and not by_sites:
            raise invalid_value(
                name,
                "it is of rounds, and gradients are averaged in every update; leave it out, or "
                "give --average weights",
            )
    if own_data and not by_sites:
        raise invalid_value(
            "datadir",
            f"{given['datadir']} gives each rank data of its own; that needs --average weights, "
            "or --preset federated",
        )
    if own_data and given.get("evaluate_every"):
        raise invalid_value(
            "evaluate_every",
            "sites have no test images in common; leave it out, and compare afterwards: gan-mpi "
            "evaluate RUN --datadir DIR",
        )
    for name, why in NOT_BY_SITES.items():
        if by_sites and given.get(name):
            raise invalid_value(name, f"{why}; leave it out")
    if by_sites and given.get("log_format", "plain") != "plain":
        raise invalid_value(
            "log_format",
            f"{given['log_format']} tells of every minibatch, and --average weights of rounds; "
            "give plain",
        )
    if by_sites and is_adaptive(config.augment):
        raise invalid_value(
            "augment",
            f"{config.augment}, but with --average weights each site would find a probability of "
            "its own; leave adaptive out",
        )
    if config.optimizer_state == "average" and config.schedule == "balance":
        raise invalid_value(
            "optimizer_state",
            "average, but by --schedule balance sites may train different players, whose states "
            "do not match; give local or reset",
        )
    if config.block_momentum != "no" and config.clip:
        raise invalid_value(
            "block_momentum",
            "it pushes weights beyond where --clip keeps them; leave one of the two out",
        )
