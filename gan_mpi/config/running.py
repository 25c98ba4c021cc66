"""Where and how a run runs."""

from dataclasses import dataclass

from gan_mpi.config.setting import setting


@dataclass(frozen=True)
class RunConfig:
    """Where and how a run runs; none of it changes the result."""

    datadir: str | None = setting(
        None,
        "Everyday",
        "Folder with IDX files (.gz or not), Train-28x28_cntk_text.txt, CIFAR-10's batches, "
        "train.npz, packed.json, or pictures.",
        flags=("--data",),
        type=str,
        metavar="DIR",
        shown_default="the dataset's folder in data/; for MNIST else drawn glyphs",
    )
    glyphs: int = setting(
        10_000,
        "Everyday",
        "Draw so many digits instead of reading data.",
        minimum=10,
        shown_default="10000, where MNIST is wanted and not there",
    )
    resolution: int = setting(
        32,
        "Everyday",
        "Pixels a side that pictures of a folder are cropped and resized to.",
        minimum=4,
        maximum=1024,
    )
    outdir: str = setting(
        "runs",
        "Everyday",
        "Folder in which a numbered run directory is made.",
        metavar="DIR",
    )
    run_dir: str | None = setting(
        None,
        "Everyday",
        "Run directory itself; the same command again resumes it.",
        type=str,
        metavar="DIR",
    )
    resume: str | None = setting(
        None, "Everyday", "Continue this run.", type=str, metavar="RUN|NUMBER", is_run=True
    )
    transfer: str | None = setting(
        None,
        "Everyday",
        "Start a new run from the networks of this run or checkpoint file.",
        type=str,
        metavar="RUN|NUMBER|CHECKPOINT",
        is_run=True,
    )
    device: str = setting(
        "auto",
        "Running",
        "auto, cpu, cuda or cuda:N; auto gives each rank of a node a GPU, if there is one.",
        metavar="DEVICE",
    )
    micro_batch: int | None = setting(
        None,
        "Running",
        "Images of a rank that pass through the networks at once, if memory has no room for its "
        "whole share; the sums of the parts are added. Not with batch normalisation.",
        type=int,
        minimum=1,
        shown_default="all",
    )
    overlap: bool | None = setting(
        None,
        "Running",
        "Compute what the next update begins with while the gradients of this one are summed; the "
        "result is the same to the bit with --no-overlap.",
        type=bool,
        shown_default="--overlap on several nodes or GPUs; on CPUs of one, ranks wait for one sum",
    )
    graphs: bool | None = setting(
        None,
        "Running",
        "Let a GPU do each step as one, which is recorded once and launched again, where one rank "
        "trains.",
        type=bool,
        shown_default="--no-graphs: it was never run on a card",
    )
    cuda_aware: bool | None = setting(
        None,
        "Running",
        "Let MPI read gradients in memory of GPUs and sum them there, once a few sums were tried.",
        type=bool,
        shown_default="--no-cuda-aware: they cross through pinned memory of the host",
    )
    hang_timeout: float = setting(
        300.0,
        "Running",
        "End with 77, and say which rank is behind, once nothing has moved for so long; 0: wait.",
        minimum=0.0,
        metavar="SECONDS",
    )
    on_failure: str = setting(
        "abort",
        "Running",
        "What follows the loss of a rank. abort: the job ends; shrink: the others share its work; "
        "respawn: a new rank takes the place of the first that is lost. The last two need Open MPI "
        "5 under mpiexec --with-ft ulfm.",
        choices=("abort", "shrink", "respawn"),
    )
    time_limit: str | None = setting(
        None,
        "Running",
        "Stop in time for this, counted from the program's start: minutes, H:MM:SS or D-HH:MM:SS.",
        type=str,
        metavar="TIME",
        shown_default="what is left of the job, where the scheduler says",
    )
    checkpoint_every: int | str = setting(
        1000,
        "Running",
        "Steps between checkpoints; auto finds them by what a checkpoint costs and how often nodes "
        "fail.",
        minimum=1,
        word="auto",
        metavar="STEPS|auto",
        shown_default="1000, or the preset's pass",
    )
    mtbf: float = setting(
        6000.0,
        "Running",
        "Mean time between failures of a node, for --checkpoint-every auto.",
        above=0.0,
        metavar="HOURS",
    )
    checkpoint_retries: int = setting(
        5,
        "Running",
        "Checkpoints in a row that may fail, of a full disk say, before the run ends.",
        minimum=0,
        metavar="NUMBER",
    )
    grid: str | None = setting(
        None,
        "Running",
        "Columns x rows of the pictures of samples.",
        type=str,
        metavar="WxH",
        shown_default="6x6, or the preset's; if --conditional 10 columns and a row for each class",
    )
    evaluate_every: int | None = setting(
        None,
        "Evaluation",
        "Compare samples with the test images every so many steps, and at the end.",
        type=int,
        minimum=1,
        metavar="STEPS",
        shown_default="never",
    )
    samples: int | None = setting(
        None,
        "Evaluation",
        "Samples that an evaluation draws; with another number than the default no floors.",
        type=int,
        minimum=6,
        shown_default="as many as training images, at most 10000",
    )
    classifier: str | None = setting(
        None,
        "Evaluation",
        "Classifier whose features are compared: a file of train-classifier, or mnist.",
        type=str,
        metavar="FILE",
        shown_default="the one of these data: in the run, in the cache, or bundled",
    )
    keep: str | None = setting(
        None,
        "Evaluation",
        "Checkpoints kept: the last three, the best besides, or all.",
        type=str,
        choices=("last", "best", "all"),
        shown_default="last, or best with --evaluate-every",
    )
    stop_on_collapse: bool = setting(
        False,
        "Evaluation",
        "End with exit code 76 when the generator draws always the same, or loses most classes.",
    )
    on_nan: str = setting(
        "stop",
        "Running",
        "What follows a loss, gradient or weight that is not finite: exit code 76, or rollback: to "
        "the last checkpoint, and on with other random numbers, three times at most.",
        choices=("stop", "rollback"),
    )
    log_format: str = setting(
        "plain",
        "Running",
        "Progress lines: ours, or those of CNTK or Paddle.",
        choices=("plain", "cntk", "paddle"),
    )
    explain: bool = setting(
        False,
        "Running",
        "Print the shard, sums and times of every rank in each update; for a few steps.",
    )
    inject: str | None = setting(
        None,
        "Running",
        "Let a rank fail in a step of a run's first start, to rehearse what happens then; KIND is "
        "raise, exit, kill, stop, loop, nan, enospc or delay=2s.",
        type=str,
        metavar="rank=N,step=N,kind=KIND",
    )
    tensorboard: bool = setting(
        False, "Running", "Write a copy of figures and samples for TensorBoard, too."
    )
    quiet: bool = setting(False, "Running", "Print errors only; log.txt is written all the same.")
