"""What an auxiliary classifier in D adds to both losses."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_mpi.game.batch import Batch


def class_loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Return the summed cross-entropy of D's class logits, outputs[:, 1:], with the labels.

    D and G both learn from it, of fakes too: Odena et al., arXiv 1610.09585, 2.
    """
    assert batch.labels is not None
    return cross_entropy(outputs[:, 1:], batch.labels, reduction="sum")
