"""Hand a trained generator to other programs: as safetensors, ONNX or torch.export's pt2."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.config.resolve import config_from_dict
from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.generator import SavedGenerator, find_generator
from gan_mpi.drawing.samples import sample_inputs, sample_labels
from gan_mpi.errors import UserError
from gan_mpi.files import header_in_order, make_place, write_aside
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.build import build_generator
from gan_mpi.networks.pixels import RANGES
from gan_mpi.runs.log import say
from gan_mpi.runs.record import DataRecord

CHECKED = 64  # images that the exported generator must draw as the original does
TOLERANCE = 1e-4
NAMES = ("latents", "labels")
Inputs = Sequence[Tensor]
Draw = Callable[..., Tensor]


@dataclass(frozen=True)
class ExportFormat:
    """How a generator becomes a file, and how the file draws again."""

    ending: str
    pack: Callable[[nn.Module, Inputs, dict[str, str]], bytes]
    load: Callable[[bytes], Draw]


def export(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    export_format: str,
    out: Path | None,
    ema: bool = True,
) -> int:
    """Write the generator of a run or checkpoint file, and check the file; return the exit code.

    Its input is latents, float32 (N, latent_dim), followed by uniform numbers if it has dropout,
    and labels, int64 (N,), if it is conditional; its output samples, float32 (N, *shape), in the
    range that the file names.  Raises UserError.  Collective.
    """

    def write() -> str:
        trained = find_generator(source, step, ema)
        form = EXPORT_FORMATS[export_format]
        target = out or Path(f"generator.{form.ending}")
        make_place(target, "--out")
        generator = trained.build().float().eval()
        drawn = sample_inputs(generator, trained.config, 0, CHECKED)
        inputs = [torch.from_numpy(drawn).float()]
        if trained.data.classes:
            inputs.append(torch.from_numpy(sample_labels(generator, 0, CHECKED)))
        about = describe(trained, inputs[0].shape[1])
        data = _attempt(lambda: form.pack(generator, inputs, about))
        apart = _difference(generator, _attempt(lambda: form.load(data)), inputs)
        if not apart <= TOLERANCE:
            raise UserError(
                f"the generator exported as {export_format} differs from that of {trained.path} by "
                f"{apart:.2g}, over {TOLERANCE}; nothing was written."
            )
        write_aside(target, data)
        return (
            f"{target}: the generator of {trained.path}; {CHECKED} images drawn with it differ by "
            f"at most {apart:.2g}"
        )

    said = comm.on_root(write)
    if comm.is_root:
        say(said)
    return 0


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except ImportError as error:
        raise UserError(
            f"--format: this format needs the package {error.name}; install 'gan-mpi[export]'."
        ) from None


def describe(trained: SavedGenerator, width: int) -> dict[str, str]:
    """Return what a file says of itself: how to feed it, and where it comes from.

    `width` is the number of latents and, with dropout, of uniform numbers after them.
    """
    config, data = trained.config, trained.data
    limits = RANGES[config.range]
    about = {
        **trained.facts,
        "latents": f"{config.latents}, (N, {config.latent_dim})",
        **_further_inputs(config, data, width),
        "samples": f"(N, {', '.join(map(str, data.shape))})",
        "config": json.dumps(asdict(config)),
        "shape": json.dumps(data.shape),
    }
    if not data.are_points:
        low, high = (-1, 1) if limits.tanh else (0, 1)
        about["range"] = f"{low} (black) to {high} (white)"
    return {name: str(value) for name, value in about.items()}


def _further_inputs(config: TrainConfig, data: DataRecord, width: int) -> dict[str, str]:
    inputs = {}
    if width > config.latent_dim:
        more = width - config.latent_dim
        inputs["dropout"] = f"uniform in 0..1, (N, {more}), joined to the latents"
    if data.classes:
        inputs["labels"] = f"int64 0..{data.classes - 1}, (N,)"
        inputs["label_counts"] = json.dumps(data.label_counts)
        if data.class_names:
            inputs["class_names"] = json.dumps(data.class_names)
    return inputs


@torch.no_grad()
def _difference(generator: nn.Module, other: Draw, inputs: Inputs) -> float:
    """Return the largest difference of two generators' samples, of all inputs and of one."""
    first = [each[:1] for each in inputs]
    gaps = [(generator(*part) - other(*part)).abs().max() for part in (inputs, first)]
    return float(torch.stack(gaps).max())


def _pack_safetensors(generator: nn.Module, inputs: Inputs, about: dict[str, str]) -> bytes:
    from safetensors.torch import save

    return header_in_order(save(generator.state_dict(), about))


def _load_safetensors(data: bytes) -> Draw:
    from safetensors.torch import load

    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"]
    config = config_from_dict(json.loads(about["config"]))
    counts = json.loads(about.get("label_counts", "[]"))
    shape = tuple(json.loads(about["shape"]))
    generator = build_generator(config, shape, counts).float()
    generator.load_state_dict(load(data))
    return generator.eval()


def _pack_onnx(generator: nn.Module, inputs: Inputs, about: dict[str, str]) -> bytes:
    import onnx
    import onnxscript  # noqa: F401 - torch's exporter needs it, and says so at length

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own use of torch
        program = torch.onnx.export(
            generator,
            tuple(inputs),
            input_names=list(NAMES[: len(inputs)]),
            output_names=["samples"],
            dynamic_shapes=_dynamic(inputs),
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

    def draw(*inputs: Tensor) -> Tensor:
        given = {n: each.numpy() for n, each in zip(NAMES, inputs, strict=False)}
        (samples,) = session.run(["samples"], given)
        return torch.from_numpy(np.asarray(samples))

    return draw


def _dynamic(inputs: Inputs) -> tuple[Any, ...]:
    """Say that the number of samples may be another in each call."""
    samples = torch.export.Dim("N")
    return tuple({0: samples} for _ in inputs)


def _pack_pt2(generator: nn.Module, inputs: Inputs, about: dict[str, str]) -> bytes:
    shapes = _dynamic(inputs)
    program = torch.export.export(generator, tuple(inputs), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about)})
    return buffer.getvalue()


def _load_pt2(data: bytes) -> Draw:
    return torch.export.load(io.BytesIO(data)).module()


EXPORT_FORMATS = {
    "safetensors": ExportFormat("safetensors", _pack_safetensors, _load_safetensors),
    "onnx": ExportFormat("onnx", _pack_onnx, _load_onnx),
    "pt2": ExportFormat("pt2", _pack_pt2, _load_pt2),
}
