"""What features are taken from: a small classifier of images, or points as they are.

A classifier is a safetensors file whose header says what it was trained on and how well.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from gan_mpi.clock import HERE
from gan_mpi.cluster.device import inference
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError, reason
from gan_mpi.evaluation.lenet import LEAST, LeNet, probabilities
from gan_mpi.files import cache_folder, header_in_order
from gan_mpi.runs.evaluations import Identity
from gan_mpi.runs.records import fits

FORMAT = "gan-mpi classifier 1"
FILE = "classifier.safetensors"  # in a run directory
HEADER = 4096  # bytes, in which a classifier's header lies
HARDLY = 0.1  # of the way from chance to all: a classifier that knows less knows nothing


@dataclass(frozen=True)
class Extractor:
    """Features and class probabilities of samples, and what says that two are the same."""

    name: str
    sha256: str
    accuracy: float | None = None  # on the test images, 0..1
    shape: tuple[int, ...] = ()  # of a sample
    network: LeNet | None = None
    class_names: tuple[str, ...] = ()  # in the order of its classes, where they are known
    learned: str = ""  # SHA-256 of the images that it learned

    @property
    def classes(self) -> int:
        """The number of classes that it tells apart, 0 if none."""
        return self.network.classify.out_features if self.network else 0

    @property
    def identity(self) -> Identity:
        """What is stored with every figure: name, sha256 and accuracy."""
        return {"name": self.name, "sha256": self.sha256, "accuracy": self.accuracy}

    @property
    def doubt(self) -> str:
        """A sentence if a classifier is hardly better on the test images than chance, or ""."""
        if self.accuracy is None or not self.classes:
            return ""
        chance = 1 / self.classes
        if self.accuracy > chance + HARDLY * (1 - chance):
            return ""
        return (
            f"the classifier {self.name} has {self.accuracy:.1%} of the test images right, of "
            f"{self.classes} classes: figures by its features say next to nothing"
        )

    def has_learned(self, train: Dataset) -> bool:
        """Return whether these training images are those that the classifier learned."""
        return self.network is not None and self.learned == train.images_sha256

    def to(self, device: torch.device) -> "Extractor":
        """Compute on this device."""
        if self.network is not None:
            self.network.to(device)
        return self

    @torch.no_grad()
    def extract(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features (n, d) and probabilities (n, classes), float64, of uint8 (n, C, H, W).

        Points (n, 2) are their own features, and have no class.
        """
        HERE.move()
        if self.network is None:
            return samples.astype(np.float64), np.empty((len(samples), 0))
        device = self.network.classify.weight.device
        with inference(self.network):
            features, logits = self.network(torch.tensor(samples, device=device))
        return features.double().cpu().numpy(), probabilities(logits).cpu().numpy()


POINTS = Extractor("points", hashlib.sha256(b"points").hexdigest(), shape=(2,))


def save_classifier(network: LeNet, about: dict[str, str]) -> bytes:
    """Return the file of a classifier; `about` has its name, data, shape, classes, accuracy.

    And, of labelled data, `labels`, their SHA-256, and `class_names`.
    """
    from safetensors.torch import save

    return header_in_order(save(network.state_dict(), {"format": FORMAT, **about}))


def read_classifier(data: bytes, path: Path) -> Extractor:
    """Return the extractor in the bytes of a file; `path` is for the message.  Raises UserError."""
    import json

    from safetensors.torch import load

    try:
        about = _header(data)
        if about["format"] != FORMAT:
            raise ValueError
        names = json.loads(about.get("class_names", "[]"))
        if not fits(names, list[str]) or len(names) not in (0, int(about["classes"])):
            raise ValueError
        shape = tuple(json.loads(about["shape"]))
        with torch.device("meta"):  # where tensors have shapes only, whatever a header says
            network = LeNet(shape, int(about["classes"]))
        network.load_state_dict(load(data), assign=True)
        network.float()
        name, accuracy, learned = about["name"], float(about["accuracy"]), about["data"]
    except Exception:  # noqa: BLE001 - a damaged file can raise anything
        raise UserError(
            f"{path} is damaged, or no classifier of gan-mpi train-classifier."
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    return Extractor(name, digest, accuracy, shape, network, tuple(names), learned)


def _header(data: bytes) -> dict[str, str]:
    """Return what a safetensors file says of itself.  Raises KeyError, TypeError, ValueError."""
    import json

    size = int.from_bytes(data[:8], "little")
    about: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return about


def labels_digest(train: Dataset) -> str | None:
    """Return the SHA-256 of labels, by which a classifier that learned others is told."""
    return None if train.labels is None else hashlib.sha256(train.labels.tobytes()).hexdigest()


def _learned_labels(data: bytes, train: Dataset) -> bool:
    """Return whether a classifier learned the labels of a data set, as far as both say."""
    try:
        learned = _header(data).get("labels")
    except (KeyError, TypeError, ValueError, RecursionError):
        return True  # which is said when it is read
    return learned is None or train.labels is None or learned == labels_digest(train)


def cache_path(digest: str) -> Path | None:
    """Return where the classifier of training images with this SHA-256 is kept for all runs.

    None for a user without a home.
    """
    folder = cache_folder()
    return None if folder is None else folder / f"classifier-{digest[:16]}.safetensors"


def bundled() -> dict[str, Path]:
    """Return the classifiers that come with gan-mpi, by name."""
    folder = Path(str(resources.files("gan_mpi") / "classifiers"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def require_sides(train: Dataset) -> None:
    """Raise UserError for images that are too small for a classifier."""
    _, height, width = train.shape
    if min(height, width) < LEAST:
        raise UserError(
            f"{train.source} holds images of {height}x{width}, and the classifier that images are "
            f"compared by takes {LEAST} pixels a side or more.",
            exit_code=2,
        )


def find_classifier(
    given: str | None, train: Dataset, run_dir: Path | None, make: str
) -> tuple[Path, bytes]:
    """Return the path and bytes of the classifier for training images.

    It is the one given, by file or bundled name; else that in the run directory, in the cache,
    if it learned their labels; or that bundled for these very images.  `make` is the command that
    would make one.  Raises UserError.
    """
    if given is not None:
        return _read(bundled().get(given, Path(given)))
    digest = train.images_sha256
    places = [None if run_dir is None else run_dir / FILE, cache_path(digest)]
    for path in places:
        if path is not None and path.exists() and _learned_labels((found := _read(path))[1], train):
            return found
    for path in bundled().values():
        if digest.encode() in path.read_bytes()[:HEADER]:
            return _read(path)
    require_sides(train)
    if train.labels is None:
        raise UserError(
            f"--classifier: there is none for these images, and {train.source} has no labels to "
            "make one by; give one of other images of the same size."
        )
    raise UserError(
        f"there is no classifier for these images yet; make one, in a minute or so: {make}"
    )


def _read(path: Path) -> tuple[Path, bytes]:
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise UserError(
            f"--classifier: cannot read {path}: {reason(error)}; name a file of gan-mpi "
            f"train-classifier, or {' or '.join(bundled())}."
        ) from None
