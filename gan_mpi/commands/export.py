"""gan-mpi export."""

from pathlib import Path

import click

from gan_mpi.options.params import (
    checkpoint_option,
    checkpoint_step,
    choice_option,
    no_ema_option,
    out_option,
)


@click.command()
@click.argument("run_or_checkpoint", required=False, type=click.Path(path_type=Path))
@checkpoint_option
@no_ema_option
@choice_option(
    "--format",
    ["safetensors", "onnx", "pt2"],
    "Weights alone, or a program for onnxruntime or torch.export.load.",
    name="export_format",
    default="safetensors",
)
@out_option("File to write.  [default: generator.FORMAT]")
def export(
    run_or_checkpoint: Path | None,
    checkpoint: str,
    no_ema: bool,
    export_format: str,
    out: Path | None,
) -> int:
    """Hand the generator of a run, or of one checkpoint file, to other programs.

    The file takes latents, float32 (N, latent_dim), and labels, int64 (N,), if it was trained with
    them, to samples, float32 (N, C, H, W), and says in its metadata which latents and which
    range. It is written only if it draws the same 64 images.
    """
    step = checkpoint_step(checkpoint)
    from gan_mpi.mpi.world import world

    comm = world()
    from gan_mpi.programs.export import export as run

    return run(comm, run_or_checkpoint, step, export_format, out, not no_ema)
