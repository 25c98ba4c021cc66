"""Hand a trained generator to other programs: as safetensors, ONNX or torch.export's pt2."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi import checkpoint
from gan_mpi.comm import Communicator
from gan_mpi.configure import config_from_dict
from gan_mpi.errors import UserError
from gan_mpi.files import write_aside
from gan_mpi.images import RANGES, provenance
from gan_mpi.prepare import build_generator, load_generator
from gan_mpi.rundir import newest_run
from gan_mpi.sampling import sample_latents

CHECKED = 64  # images that the exported generator must draw as the original does
TOLERANCE = 1e-4
Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """How a generator becomes a file, and how the file draws again."""

    ending: str
    pack: Callable[[nn.Module, Tensor, dict[str, str]], bytes]
    load: Callable[[bytes], Draw]


def export(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    file_format: str,
    out: Path | None,
) -> int:
    """Write the generator of a run or checkpoint file, and check the file; return the exit code.

    Its input is latents, float32 (N, latent_dim), its output samples, float32 (N, *shape), in the
    range that the file names.  Raises UserError.  Collective.
    """

    def write() -> str:
        path, state = checkpoint.find_checkpoint(
            source or newest_run(Path("runs")), step, _warn
        )
        form = FORMATS[file_format]
        generator = load_generator(state).float().eval()
        drawn = sample_latents(config_from_dict(state["config"]), 0, CHECKED)
        latents = torch.from_numpy(drawn).float()
        data = _attempt(lambda: form.pack(generator, latents, describe(state)))
        apart = _difference(generator, _attempt(lambda: form.load(data)), latents)
        if not apart <= TOLERANCE:
            raise UserError(
                f"the generator exported as {file_format} differs from that of {path} by {apart:.2g}, "
                f"over {TOLERANCE}; nothing was written."
            )
        target = out or Path(f"generator.{form.ending}")
        write_aside(target, data)
        return (
            f"{target}: the generator of {path}; {CHECKED} images drawn with it differ by at most "
            f"{apart:.2g}"
        )

    said = comm.on_root(write)
    if comm.is_root:
        sys.stdout.write(said + "\n")
    return 0


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except ImportError as error:
        raise UserError(
            f"--format: this format needs the package {error.name}; install 'gan-mpi[export]'."
        ) from None


def describe(state: dict[str, Any]) -> dict[str, str]:
    """Return what a file says of itself: how to feed it, and where it comes from."""
    config = config_from_dict(state["config"])
    limits = RANGES[config.range]
    about = {
        **provenance(state),
        "latents": f"{config.latents}, (N, {config.latent_dim})",
        "samples": f"(N, {', '.join(map(str, state['data']['shape']))})",
        "config": json.dumps(asdict(config)),
        "shape": json.dumps(state["data"]["shape"]),
    }
    if len(state["data"]["shape"]) == 3:
        low, high = (-1, 1) if limits.tanh else (0, 1)
        about["range"] = f"{low} (black) to {high} (white)"
    return {name: str(value) for name, value in about.items()}


@torch.no_grad()
def _difference(generator: nn.Module, other: Draw, latents: Tensor) -> float:
    """Return the largest difference of two generators' samples, of all latents and of one."""
    gaps = [
        (generator(part) - other(part)).abs().max() for part in (latents, latents[:1])
    ]
    return float(torch.stack(gaps).max())


def _pack_safetensors(
    generator: nn.Module, latents: Tensor, about: dict[str, str]
) -> bytes:
    from safetensors.torch import save

    return save(generator.state_dict(), about)


def _load_safetensors(data: bytes) -> Draw:
    from safetensors.torch import load

    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"]
    config = config_from_dict(json.loads(about["config"]))
    generator = build_generator(config, tuple(json.loads(about["shape"]))).float()
    generator.load_state_dict(load(data))
    return generator.eval()


def _pack_onnx(generator: nn.Module, latents: Tensor, about: dict[str, str]) -> bytes:
    import onnx
    import onnxscript  # noqa: F401 - torch's exporter needs it, and says so at length

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own use of torch
        program = torch.onnx.export(
            generator,
            (latents,),
            input_names=["latents"],
            output_names=["samples"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _load_onnx(data: bytes) -> Draw:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def draw(latents: Tensor) -> Tensor:
        (samples,) = session.run(["samples"], {"latents": latents.numpy()})
        return torch.from_numpy(np.asarray(samples))

    return draw


def _pack_pt2(generator: nn.Module, latents: Tensor, about: dict[str, str]) -> bytes:
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.export.export(generator, (latents,), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about)})
    return buffer.getvalue()


def _load_pt2(data: bytes) -> Draw:
    return torch.export.load(io.BytesIO(data)).module()


FORMATS = {
    "safetensors": Format("safetensors", _pack_safetensors, _load_safetensors),
    "onnx": Format("onnx", _pack_onnx, _load_onnx),
    "pt2": Format("pt2", _pack_pt2, _load_pt2),
}
