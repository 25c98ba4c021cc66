"""The systems that can be trained by name: what differs from the defaults, and what is odd."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CntkLog:
    """What a CNTK program prints: rows a network, whose row is first, header and closing line.

    `every_update` says whether its printer sees each update of a step, or the last alone.
    `closing` is filled with rank, loss and seconds, once a rank if it names the rank.
    """

    rows: int = 50
    order: str = "DG"
    every_update: bool = True
    header: str = ""
    closing: str = (
        "Training loss of the generator at worker: {{{rank}}} is: {{{loss:f}}}, "
        "time taken is: {{{seconds:.0f}}} seconds."
    )


@dataclass(frozen=True)
class Preset:
    """One system: a sentence, its two lengths in steps, and option values by option name.

    `settings` decide the result, `run_settings` do not.  `original` is the command or program
    that did the same, `oddities` are what a user should know of it, and `tried` what was tried for
    it: options, steps, and the distance with seeds 0 and 1.  `measured_by` makes these figures.
    """

    summary: str
    fast_steps: int
    full_steps: int
    original: str
    settings: dict[str, Any] = field(default_factory=dict)
    run_settings: dict[str, Any] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    tried: tuple[tuple[str, str, str, str], ...] = ()
    cntk_log: CntkLog = CntkLog()
    measured_by: str = ""


ADAM = {"optimizer": "adam", "lr": 2e-4, "beta1": 0.5}
# CNTK and Paddle give Adam the sum over the batch, so that its 1e-8 is this to the mean.
ADAM_OF_SUMS = {**ADAM, "epsilon": 1e-8 / 128}
DCGAN = {"batch": 128, **ADAM_OF_SUMS, "beta2": 0.9999986111120757**128}
LOG_206B = CntkLog(
    rows=25,
    order="GD",
    every_update=False,
    header="First row is Generator loss, second row is Discriminator loss",
    closing="Training loss of the generator is: {loss:.2f}",
)
PADDLE = {
    "latents": "normal",
    "batch": 128,
    "loss": "mean",
    "schedule": "balance",
    "d_update": "separate",
    **ADAM_OF_SUMS,
}
FOR_128 = (
    "Adam's epsilon is the original's 1e-8, there added to the root for a gradient summed over 128 "
    "images; it stays so with another --batch."
)
PADDLE_ODDITIES = (
    (
        "Each step trains whichever player has the larger loss, at most five times running, "
        "although the advice of the time (ganhacks, 11) is not to balance by loss."
    ),
    (
        "D learns from the fakes in one update and from the reals in a second one; that is two "
        "Adam steps on the same batch."
    ),
    (
        "The original drew each real batch by itself, with no epochs; here the data are shuffled "
        "once an epoch."
    ),
    (
        "The original drew its samples with the statistics of their batch of 128, of which it "
        "showed 64; here with the running ones, so that an image depends on its seed alone."
    ),
    ("The tutorial's text has --useGpu 1, which the program rejects; its option is --use_gpu."),
    FOR_128,
    "D ends in two outputs and a softmax; D(x) is the second's share.",
)
LIGHTNING = {
    "network": "lightning",
    "latents": "normal",
    "loss": "mean",
    "batch": 256,
    "d_steps": 1,
    "first": "generator",
    **ADAM,
}
OPENFL = (
    "fx envoy start -n env_two --disable-tls --envoy-config-path envoy_config_two.yaml "
    "-dh localhost -dp 50050, and its notebook"
)
PADDLE_RELU = "D has ReLU, not leaky ReLU, although it says that it follows the DCGAN paper."

PRESETS = {
    "basic": Preset(
        summary="CNTK's Basic_GAN_Distributed.py: dense networks, FSAdaGrad, two D updates a step",
        fast_steps=300,
        full_steps=40_000,
        original="mpiexec -n 4 python Basic_GAN_Distributed.py --datadir DIR",
        oddities=(
            (
                "D's loss is the sum of its two terms, not their mean, and G's has a constant 1 "
                "added: both players at chance have 1.386 and 1.693."
            ),
            (
                "The tutorial's text gives 0.0005 as the learning rate and its code 0.00005, per "
                "sample; the code counts."
            ),
            "The original's README calls the optimizer SGD with momentum; it is FSAdaGrad.",
            "Every rank of the original drew the same noise; here no two do.",
        ),
    ),
    "dcgan": Preset(
        summary="The DCGAN we recommend: 206B with its faults mended, every pixel seen by D",
        fast_steps=5_000,
        full_steps=10_000,
        original="CNTK_206B_DCGAN.ipynb, as its text describes it",
        settings={**DCGAN, "network": "dcgan", "ema": 20.0},
        measured_by=(
            "docs/figures.sh MNIST dcgan; losses, brightness:\nGAN_MPI_DATA=DIR make long"
        ),
        oddities=(
            (
                "D's convolutions are padded (28 to 15 to 8), so that all pixels reach it, those "
                "of the last row and column like others; in dcgan-206b rows and columns 25 to 27 "
                "do not."
            ),
            (
                "Padded by one less after the image (28 to 14 to 7), D has one row of one kernel "
                "for the last row, and how bright it is drawn depends on the seed. Padded as "
                "here, rows and columns 25 to 27 were brighter than the data's by 0.1 of 255 "
                "after 5,000 steps (losses of the last 1,000 G 1.88, D 1.23)."
            ),
            (
                "As the tutorial's text has it, and not its code: G ends in tanh, images are in "
                "-1..1, G is updated once a step. As in the code (--range unit --g-steps 2) "
                "digits were as legible, and a step takes longer."
            ),
            (
                "Samples come from an average of G's weights with a half-life of 20,000 images; "
                "--ema 0 leaves it out. It changes no training."
            ),
            (
                "After 1,000 steps neither hinge nor other latents are nearer by more than seeds "
                "differ, and one update of D a step is far behind. After 300 steps last bits and "
                "seeds move the distance by factors (74.6 and 90.0 were those of 0.5.0 without an "
                "option); instance norm in G then leaves digits on a checkered ground, and with "
                "it in D the generator draws one picture."
            ),
        ),
        tried=(
            ("as it is", "5,000", "1.61", "1.68"),
            ("--ema 0", "5,000", "4.68", "3.81"),
            ("--ema 0 --latents normal --d-steps 1", "5,000", "", "4.90"),
            ("as it is", "1,000", "5.54", "6.06"),
            ("--loss hinge", "1,000", "5.86", "5.42"),
            ("--latents normal", "1,000", "6.83", "7.27"),
            ("--d-steps 1", "1,000", "35.36", "22.18"),
            ("as it is", "300", "127.1", "54.0"),
            ("--lr 4e-4", "300", "29.8", "215.7"),
            ("--real-targets 0.9", "300", "90.6", "88.0"),
            ("--g-norm instance", "300", "", "205.6"),
            ("--d-norm instance", "300", "", "499.1"),
        ),
        cntk_log=LOG_206B,
    ),
    "small": Preset(
        summary="The quickest that we know: small convolutions, classes, 2 to 3 minutes on 2 cores",
        fast_steps=2_400,
        full_steps=20_000,
        original="none; it is made for a first look, and for laptops",
        settings={
            "network": "small",
            "conditional": "projection",
            "latents": "normal",
            "latent_dim": 16,
            "loss": "nonsaturating",
            "batch": 32,
            "d_steps": 1,
            "optimizer": "adam",
            "lr": 1e-3,
            "beta1": 0.0,
            "ema": 5.0,
            "r1": 3.0,
        },
        measured_by="docs/figures.sh MNIST small",
        oddities=(
            (
                "The data need labels, as drawn glyphs, MNIST, CIFAR-10 and folders of classes "
                "have; --conditional no does without."
            ),
            (
                "With 16 latents beside 10 classes the class is a large part of what G is told; "
                "with 64 no class was learned in 300 steps. A hidden layer of 256, where both "
                "meet, and a batch of 32 rather than 64 drew clearer digits in the same time."
            ),
            (
                "On MNIST, G draws one digit a class, whatever the latents, with batch norm in D, "
                "with spectral norm, and with smaller rates of D (1,000 steps each); with the "
                "penalty R1 and no norm in D it does not."
            ),
            (
                "Adam keeps no mean gradient (beta1 0), as is usual beside R1, which is 3 for "
                "MNIST's sake. Floors (10000, 10000) after 2,400 steps on one rank: glyphs 15.3, "
                "MNIST 8.1 (on two 14.3 and 10.0); with --beta1 0.5 --r1 1, 34.3 and 16.0; with "
                "--r1 1, 15.3 and 95.1; with --r1 1 --beta2 0.99, 14.4 (14.8 with seed 1) and "
                "101.5. The two last draw one digit a class of MNIST. D(x) and D(G(z)) are near "
                "0.5 from the first hundred steps on, as they should be here."
            ),
        ),
    ),
    "dcgan-206b": Preset(
        summary="CNTK tutorial 206B as its code was, with the noisy band that it leaves",
        fast_steps=5_000,
        full_steps=10_000,
        original="CNTK_206B_DCGAN.ipynb",
        settings={
            **DCGAN,
            "network": "dcgan-206b",
            "range": "unit",
            "g_steps": 2,
            "g_latents": "repeated",
        },
        oddities=(
            (
                "D's 5x5 convolutions of stride 2 without padding (28 to 12 to 4) never see rows "
                "and columns 25 to 27 (25 and 26 but for the first layer's batch statistics): "
                "nothing teaches G there, and every sample has a noisy band at its lower and "
                "right edge. Preset dcgan mends it."
            ),
            "D's first convolution has one filter, and batch normalisation.",
            "G is updated twice a step with the same latents; the comment there says once.",
            "The text says tanh; the code ends in a sigmoid, with images in 0..1.",
            (
                "beta2 of Adam is CNTK's per-sample default, 0.99982 for a batch of 128, and the "
                "running statistics move by 0.0253, its 5,000 samples for 128; both stay so with "
                "another --batch."
            ),
            FOR_128,
            "The text speaks of 20,000 minibatches and a few hours; the code trains 10,000.",
            "The text promises no dense hidden layers; each network has one of 1024 or more.",
            (
                "The original's running statistics of D also moved while G was trained; here those "
                "of a network move with its own updates alone."
            ),
        ),
        cntk_log=LOG_206B,
    ),
    "paddle-mnist": Preset(
        summary="PaddlePaddle's demo/gan on MNIST: a DCGAN trained by the balance rule",
        fast_steps=1_000,
        full_steps=100_000,
        original="python gan_trainer.py -d mnist --use_gpu 0",
        settings={**PADDLE, "network": "paddle"},
        run_settings={"grid": "8x8"},
        oddities=(
            *PADDLE_ODDITIES,
            PADDLE_RELU,
        ),
    ),
    "paddle-cifar": Preset(
        summary="PaddlePaddle's demo/gan on CIFAR-10: the same in three channels, 32x32",
        fast_steps=1_000,
        full_steps=100_000,
        original="python gan_trainer.py -d cifar --use_gpu 0",
        settings={**PADDLE, "network": "paddle", "dataset": "cifar10"},
        run_settings={"grid": "8x8"},
        oddities=(
            *PADDLE_ODDITIES,
            PADDLE_RELU,
        ),
    ),
    "paddle-uniform": Preset(
        summary="PaddlePaddle's demo/gan on points of the unit square, from 10 normal numbers",
        fast_steps=100_000,
        full_steps=1_000_000,
        original="python gan_trainer.py -d uniform --use_gpu 0",
        settings={
            **PADDLE,
            "dataset": "uniform",
            "network": "paddle-points",
            "latent_dim": 10,
            "lr": 1e-4,
            "seed": 1,
        },
        run_settings={"checkpoint_every": 10_000},
        measured_by="GAN_MPI_DATA=DIR make long",
        oddities=(
            *PADDLE_ODDITIES,
            (
                "All biases start at 1, so that few of D's ReLUs bend inside the square. Batch "
                "norm over all-fake batches then hides from D where they are, and whether G finds "
                "the square depends on the initial weights. With seed 1, which is this preset's, "
                "it is there after --fast on two ranks (mean 0.52 and 0.45, deviation 0.30 and "
                "0.30; the emptiest of 4x4 cells has 3.3 % of the points, 1.9 % lie more than "
                "0.05 outside), though it wanders: from step 10,000 on the means were between "
                "0.43 and 0.58, and 34 of 50 looks found mean and deviation within 0.05 of the "
                "square's."
            ),
        ),
    ),
    "lightning": Preset(
        summary="Lightning's basic GAN, as OpenFL's tutorial used it: five dense layers, G first",
        fast_steps=1_175,
        full_steps=2_350,
        original=f"{OPENFL}; or python gan.py of Lightning",
        settings={**LIGHTNING, "range": "standard"},
        run_settings={"grid": "5x2"},
        measured_by=(
            "docs/figures.sh MNIST federated; losses as it is:\nGAN_MPI_DATA=DIR make long"
        ),
        oddities=(
            (
                "The data are in -0.42..2.82 and G ends in tanh, -1..1: D can tell them apart by "
                "range alone, and does. After --fast on two ranks G's loss is 5.5, D's 0.07, and "
                "the samples are few and hardly digits. With --range signed the losses are 1.64 "
                "and 0.46 by then."
            ),
            "BatchNorm1d(n, 0.8) sets epsilon to 0.8, where a momentum was meant; kept.",
            "The original did not shuffle; here every epoch has its own order.",
            (
                "Pictures show -1..1, what tanh can give, so that the data's black, -0.42, comes "
                "out as the grey 73 where G has learned it; reals.png has the data as they are."
            ),
            (
                "Lightning's own gan.py trains 5 epochs of 55,000 images, in batches of 64 where "
                "there is no GPU; here it is OpenFL's 256 of all 60,000. OpenFL's rounds seem to "
                "have begun Adam anew each; here it goes on."
            ),
            (
                "fast is five epochs, as in Lightning's example, full OpenFL's ten rounds of one "
                "epoch. Its federated averaging of weights is preset federated; here gradients "
                "are averaged."
            ),
        ),
    ),
    "federated": Preset(
        summary="OpenFL's tutorial: Lightning's GAN at sites that share weights, not data",
        fast_steps=1_175,
        full_steps=2_350,
        original=OPENFL,
        settings={
            **LIGHTNING,
            "range": "signed",
            "average": "weights",
            "every": "20",
            "optimizer_state": "average",
        },
        run_settings={"grid": "5x2"},
        measured_by="docs/figures.sh MNIST federated",
        oddities=(
            (
                "Each rank is a site. --datadir 'site-{rank}' names the folder of each; 'gan-mpi "
                "data split' "
                "makes some to try. With one folder for all, each site has its part of every "
                "batch of it."
            ),
            (
                "The original's ranges, -0.42..2.82 of the data and -1..1 of G, let D win by "
                "range alone (see preset lightning); here the data are in -1..1. --range standard "
                "is as it was."
            ),
            (
                "The original's plan asked that both optimizers go on as an average "
                "(CONTINUE_GLOBAL), but its plugin let D's state overwrite G's, and Lightning "
                "began Adam anew each round. Here it is as planned; --optimizer-state reset is as "
                "it was."
            ),
            (
                "A round is 20 steps; the original's, an epoch of each site's data, is --every "
                "1epoch. docs/figures.sh MNIST federated, seed 0, once each on two sites, in "
                "floors (10000, 10000): with the same digits at both, --fast ends at 336 with "
                "rounds of 20 steps, at 272 with rounds of an epoch, and at 356 where gradients "
                "are averaged. With digits 0-4 at one site and 5-9 at the other it is 203 with "
                "rounds of 20 steps (34 % of the samples are judged 0-4, two classes are "
                "missing), 302 with rounds of an epoch (five classes missing), 296 with optimizers "
                "that are the sites' own, and 157 with such as begin anew. At so short a length "
                "all are far from digits, and last bits move them as much: sums in another order "
                "gave 210, 238, 234, 186, 324, 338 and 215."
            ),
            (
                "The batch of 256 is that of all sites together; the original's was each site's. "
                "Sites count by their images, as in OpenFL's weighted average."
            ),
        ),
    ),
}
