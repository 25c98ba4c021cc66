"""What goes wrong in a GAN before the losses say so, each in one sentence with its figures."""

import math
from collections.abc import Mapping

from gan_mpi.runs.evaluations import Evaluation, class_name, missing_classes
from gan_mpi.runs.stats import StatsRecord, figures_of

WON_LOSS = 0.01  # of D, below which it has won
GRADIENT = 100.0  # norm of a mean gradient
LOGIT = 50.0  # |mean|: float32 rounds a sigmoid to 0 or 1 from 17 or so on
ALIKE = 1e-3  # between the mean scores of reals and fakes, below which D may tell nothing apart
FLAT = 1e-3  # norm of the gradient of G, over which alike scores teach, as beside a large penalty
SPREAD = 0.05  # of that of real images, below which samples are all the same
SLOPELESS = 1e-5  # from the gradient penalty that slopes of 0 have, as a share of it
FIRST_UPDATES = 200  # of G, in which samples may still be alike
FIRST_SCORES = 50  # updates of each player, in which scores may still be alike

COLLAPSE = "collapse"  # the name of the alarm that --stop-on-collapse heeds


def alarms(
    record: StatsRecord,
    updates: Mapping[str, int],
    of_a_critic: bool = False,
    flat: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Return the sentences, by the names of the alarms, that a record of stats.jsonl gives rise to.

    `updates` are those of each player, G and D, so far.  Scores and a loss `of_a_critic`, which
    game/losses.py speaks of, are not judged.  `flat` is, by the names of penalties
    that count, what they are of slopes of 0.
    """
    sentences = {} if of_a_critic else _of_scores(record, updates)
    sentences |= _of_penalties(record, flat or {})
    for player in "GD":
        norm = figures_of(record).get(f"gradient_{player}", 0.0)
        if norm > GRADIENT:
            sentences[f"gradient of {player}"] = (
                f"the gradient of {player} has a norm of {norm:.3g}, over {GRADIENT:.0f}; a lower "
                f"--{player.lower()}-lr may help"
            )
    spread = record.get("spread", 1.0)
    if spread < SPREAD and updates["G"] >= FIRST_UPDATES:
        sentences[COLLAPSE] = (
            "the generator draws always the same (mode collapse): its samples differ from each "
            f"other by {spread:.1%} of what real images do, under {SPREAD:.0%}"
        )
    return sentences


def _of_scores(record: StatsRecord, updates: Mapping[str, int]) -> dict[str, str]:
    if not {"loss_D", "D_real", "D_fake"} <= record.keys():
        return {}
    sentences = {}
    scores = f"D(x) {record['D_real']:.3f}, D(G(z)) {record['D_fake']:.3f}"
    if record["loss_D"] < WON_LOSS:
        sentences["D has won"] = (
            "the discriminator has won, and the generator learns little: its loss is "
            f"{record['loss_D']:.2g}, {scores}; a lower --d-lr or fewer --d-steps may help"
        )
    largest = max(abs(record["logit_real"]), abs(record["logit_fake"]))
    if largest > LOGIT:
        sentences["exploding scores"] = (
            f"the discriminator's raw scores explode: their mean is {largest:.3g}, beyond "
            f"{LOGIT:.0f}; a lower --d-lr may help"
        )
    apart = abs(record["D_real"] - record["D_fake"])
    slope = figures_of(record).get("gradient_G", 0.0)
    if apart < ALIKE and slope < FLAT and min(updates.values()) >= FIRST_SCORES:
        sentences["vanishing scores"] = (
            f"the discriminator gives reals and fakes the same score, and teaches the generator "
            f"nothing: {scores}; another --d-lr may help"
        )
    return sentences


def _of_penalties(record: StatsRecord, flat: Mapping[str, float]) -> dict[str, str]:
    figures = figures_of(record)
    at = {"r1": "all reals", "r2": "all fakes", "gradient": "all mixtures of reals and fakes"}
    slopeless = [
        name
        for name, penalty in flat.items()
        if abs(figures.get(f"penalty_{name}", math.inf) - penalty) <= SLOPELESS * penalty
    ]
    if not slopeless:
        return {}
    options = " and ".join(f"--{name}{'-penalty' * (name == 'gradient')}" for name in slopeless)
    where = " and ".join(at[name] for name in slopeless)
    return {
        "flat discriminator": "the discriminator is flat: its slope, which "
        f"{options} should bound, is 0 at {where}, and teaches the generator nothing; a lower "
        "--d-lr may help"
    }


def alarms_of_evaluation(record: Evaluation, fewest_missing: int) -> dict[str, str]:
    """Return the sentences that an evaluation gives rise to: classes that are not drawn.

    `fewest_missing` classes were missing in the best evaluation before.  It is a collapse if most
    are missing that were drawn; a generator that has yet to learn them has not collapsed.
    """
    figures = record["figures"]
    shares, missing = figures.get("histogram"), figures.get("missing")
    if not missing or not shares:
        return {}
    most = max(range(len(shares)), key=shares.__getitem__)
    sentence = (
        f"{len(missing)} of {len(shares)} classes are hardly drawn: {missing_classes(record)}; "
        f"{shares[most]:.0%} of the samples are taken for class {class_name(record, most)}"
    )
    if 2 * len(missing) > len(shares) >= 2 * fewest_missing:
        return {COLLAPSE: f"most modes are lost (mode collapse): {sentence}"}
    return {"missing modes": sentence}
