"""Train the classifier in whose features generators are compared, over all ranks."""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gan_mpi import __version__
from gan_mpi.arrays import take
from gan_mpi.cluster.device import inference, place
from gan_mpi.config.optimizer import OptimizerConfig
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.drawing.samples import in_chunks
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.evaluation.extractor import (
    cache_path,
    labels_digest,
    read_classifier,
    require_sides,
    save_classifier,
)
from gan_mpi.evaluation.lenet import LeNet
from gan_mpi.files import write_output
from gan_mpi.game.players import Player, make_player
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.weights import draw_weights, torch_default
from gan_mpi.parallel.average import average_gradients
from gan_mpi.parallel.data import say_notes, share_dataset, share_tests
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.runs.log import say, warn
from gan_mpi.streams import DataOrder, Purpose, shard

BATCH = 128  # images in one update, over all ranks
LR = 2e-3  # falls to 0 over the run
ADAM = OptimizerConfig("adam", lr=LR, beta1=0.9, beta2=0.999, epsilon=1e-8)


def train_classifier(
    comm: Communicator, source: Source, seed: int, epochs: int, out: Path | None
) -> int:
    """Train on the labelled images of a source, and write the classifier; return the exit code.

    Without `out` it goes to the cache, where every run on these images finds it.  Raises
    UserError.  Collective.
    """
    begin = time.perf_counter()
    device = place(comm, "auto").device
    train, _ = share_dataset(comm, source)
    test = share_tests(comm, source, train)
    comm.alike(lambda: _require_labels(train, test))
    comm.alike(lambda: require_sides(train))
    digest = train.images_sha256
    target = comm.alike(lambda: _target(out, digest))
    say_notes(comm, train)
    _say(comm, f"{len(train.images)} images of {train.source}, {epochs} epochs")
    network = make_network(comm, train, seed, device)
    _fit(comm, make_player(network, ADAM, BATCH), network, train, seed, epochs)
    accuracy = measure_accuracy(comm, network, test)
    about = {
        "name": f"{train.name}-lenet",
        "data": digest,
        "shape": json.dumps(list(train.shape)),
        "classes": str(network.classify.out_features),
        "class_names": json.dumps(list(train.classes[: network.classify.out_features])),
        "labels": str(labels_digest(train)),
        "accuracy": str(accuracy),
        "test_images": str(len(test.images)),
        "seed": str(seed),
        "epochs": str(epochs),
        "version": __version__,
    }
    data = save_classifier(network.cpu(), about)
    comm.on_root(lambda: write_output(target, data, "--out"))
    extractor = read_classifier(data, target)
    _say(
        comm,
        f"{target}: {accuracy:.2%} of {len(test.images)} test images right, "
        f"SHA-256 {extractor.sha256}, {time.perf_counter() - begin:.0f} s",
    )
    if extractor.doubt and comm.is_root:
        warn(extractor.doubt)
    return 0


def _target(out: Path | None, digest: str) -> Path:
    """Return where to write the classifier.  Raises UserError if nothing says where."""
    target = out or cache_path(digest)
    if target is None:
        raise UserError("--out: this user has no home for a cache; name a file.", exit_code=2)
    return target


def make_network(comm: Communicator, train: Dataset, seed: int, device: torch.device) -> LeNet:
    """Return a new classifier for the labels of a data set, the same on all ranks.  Collective."""
    assert train.labels is not None
    network = LeNet(train.shape, int(train.labels.max()) + 1)  # type: ignore[arg-type]
    draw_weights(network, seed, Purpose.WEIGHTS_CLASSIFIER, torch_default)
    network.to(device)
    broadcast_network(comm, network)
    return network


def _fit(
    comm: Communicator,
    player: Player,
    network: LeNet,
    train: Dataset,
    seed: int,
    epochs: int,
) -> None:
    """Train for some epochs, each rank on its part of every batch.  Collective."""
    assert train.labels is not None
    order, count = DataOrder(seed, len(train.images)), len(train.images)
    updates = max(1, epochs * count // BATCH)
    device = network.classify.weight.device
    total, seen = 0.0, 0
    for update in range(updates):
        lo, hi = (update * BATCH + at for at in shard(BATCH, comm.rank, comm.world_size))
        rows = order.indices(lo, hi)
        labels = torch.from_numpy(train.labels[rows]).long().to(device)
        player.bucket.zero()
        _, logits = network(torch.from_numpy(take(train.images, rows)).to(device))
        loss = cross_entropy(logits, labels, reduction="sum")
        loss.backward()
        averages = average_gradients(comm, player.bucket, {"loss": loss}, hi - lo, False)
        if not math.isfinite(averages.means["loss"]):
            comm.raise_alike(
                UserError(f"diverged: the loss is not finite in update {update}.", DIVERGED)
            )
        player.lr = LR * (1 - update / updates)
        player.update()
        total, seen = total + averages.means["loss"], seen + 1
        epoch, before = (round(at * epochs / updates, 9) // 1 for at in (update + 1, update))
        if epoch > before:
            _say(comm, f"epoch {epoch:.0f}/{epochs}: loss {total / seen:.4f}")
            total, seen = 0.0, 0


@torch.no_grad()
def measure_accuracy(comm: Communicator, network: LeNet, test: Dataset) -> float:
    """Return the share of test images whose class is found.  Collective."""
    device = network.classify.weight.device

    def right(first: int, last: int) -> tuple[np.ndarray]:
        assert test.labels is not None
        with inference(network):
            _, logits = network(torch.tensor(test.images[first:last], device=device))
        return (logits.argmax(1).cpu().numpy() == test.labels[first:last],)

    return float(in_chunks(comm, len(test.images), right)[0].mean())


def _require_labels(*datasets: Dataset) -> None:
    for dataset in datasets:
        if dataset.labels is None:
            raise UserError(
                f"{dataset.source} has no labels beside it, and a classifier learns from them."
            )


def _say(comm: Communicator, text: str) -> None:
    if comm.is_root:
        say(text)
