"""What a rank computes while gradients are summed, and what keeps it from that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from torch import nn

from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.parallel.bucket import GradientBucket


@dataclass(frozen=True)
class Overlap:
    """Whether the gradients of both players cross in pieces, and whether ranks compute meanwhile.

    Without the latter they send the same messages in the same order, and wait for each at once.
    Those of devices always cross in pieces, which are copied while a backward goes on.
    Nothing can be computed ahead with the players in `blocked`, G and D; `why_not` says why nothing
    is hidden where nothing can be.
    """

    in_pieces: bool = False
    hides: bool = False
    blocked: frozenset[str] = frozenset()
    why_not: str = ""

    def allows(self, player: str) -> bool:
        """Return whether a player, G or D, may compute while the other's gradients are summed."""
        return self.hides and player not in self.blocked


class Updated(Protocol):
    """A network that is trained, and the gradients of it."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def bucket(self) -> GradientBucket: ...


def arrange_overlap(
    comm: Communicator,
    players: Mapping[str, Updated],
    ahead: Mapping[str, str],
    asked: bool | None,
    whole: bool,
    direct: bool,
    explains: bool,
) -> Overlap:
    """Let the gradients of players, by name, cross by what is planned for them; return that.

    `ahead` says by player why it cannot compute ahead, empty if it can but for its network; without
    an entry it has nothing to compute.  `asked` is None where nobody said: then ranks overlap if
    they are on several nodes or compute on devices; on one, sums take the cores themselves.
    `whole` says that one backward goes through this rank's share, whose gradients may then cross
    from within.  `direct` says that MPI reads memory of devices; who `explains` wants all at once.
    """
    overlap, on_host = Overlap(), all(player.bucket.on_host for player in players.values())
    if comm.world_size > 1 and (comm.node_count > 1 or asked is not None or not on_host):
        reasons = {name: why or _what_blocks(players[name].network) for name, why in ahead.items()}
        overlap = plan_overlap(reasons, asked is not False)
        in_pieces = overlap.in_pieces or not (on_host or explains)
        overlap = replace(overlap, in_pieces=in_pieces)
    comm.under_way.at_once = not overlap.hides
    for player in players.values():
        bucket = player.bucket
        bucket.pieces.clear()
        if not overlap.in_pieces:
            continue
        bucket.cut(direct)
        if whole and not (on_host and normalises_over_ranks(player.network)):
            bucket.bring_when_finished()
        if overlap.hides and on_host:
            look_between_layers(comm, player.network)
    return overlap


def plan_overlap(reasons: Mapping[str, str], hides: bool) -> Overlap:
    """Return how gradients cross.

    `reasons` say why each player that has something to compute ahead cannot, empty if it can.
    """
    blocked = {name: why for name, why in reasons.items() if why}
    if len(blocked) < len(reasons):
        return Overlap(True, hides, frozenset(blocked))
    said = dict.fromkeys(blocked.values())
    each = [f"{' and '.join(n for n in blocked if blocked[n] == why)} {why}" for why in said]
    return Overlap(why_not=", ".join(each) or "G alone is trained, and nothing else goes on")


def _what_blocks(network: nn.Module) -> str:
    """Return why a pass through a network may not be made ahead, empty if it may."""
    if normalises_over_ranks(network):
        return "cannot compute ahead of batch norm's own sums"
    kept = {id(buffer) for layer in batch_norms(network) for buffer in layer.buffers()}
    if any(id(buffer) not in kept for buffer in network.buffers()):
        return "would change its spectral norm"
    return ""


def normalises_over_ranks(network: nn.Module) -> bool:
    """Return whether a pass through a network communicates."""
    return any(
        layer.comm is not None and layer.comm.world_size > 1 and not layer.local
        for layer in batch_norms(network)
    )


def look_between_layers(comm: Communicator, network: nn.Module) -> None:
    """Let the sums that are under way go on after each layer, forward and backward."""

    def look(*_: object) -> None:
        comm.under_way.look()

    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(look)
    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(look)
