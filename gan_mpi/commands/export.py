"""gan-mpi export."""

from pathlib import Path

import click

from gan_mpi.options.params import (
    checkpoint_option,
    checkpoint_step,
    choice_option,
    format_of,
    no_ema_option,
    out_option,
    run_argument,
)

ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "pt2": ".pt2"}


@click.command(short_help="Hand a generator to other programs.")
@run_argument
@checkpoint_option
@no_ema_option
@choice_option(
    "--format",
    tuple(ENDINGS),
    "Weights alone, or a program for onnxruntime or torch.export.load.  [default: as --out ends, "
    "else safetensors]",
    name="export_format",
)
@out_option("File to write.  [default: generator.FORMAT]")
def export(
    run_or_checkpoint: Path | None,
    checkpoint: str,
    no_ema: bool,
    export_format: str | None,
    out: Path | None,
) -> int:
    """Hand the generator of a run, or of one checkpoint file, to other programs.

    The file takes latents, float32 (N, latent_dim), and labels, int64 (N,), if it was trained with
    them, to samples, float32 (N, C, H, W), and says in its metadata which latents and which
    range. It is written only if it draws the same 64 images.
    """
    step = checkpoint_step(checkpoint)
    form = format_of(export_format, out, ENDINGS, "safetensors")
    from gan_mpi.mpi.world import world
    from gan_mpi.options.begin import importing

    comm = world()
    with importing():
        from gan_mpi.programs.export import export as run

    return run(comm, run_or_checkpoint, step, form, out, not no_ema)
