"""Whether a job started like this one would work: what there is, what is wrong, what would do."""

from pathlib import Path

from gan_mpi.cluster.facts import Facts, collect_facts, disagreements
from gan_mpi.cluster.probes import (
    SignalProbe,
    clock_differences,
    free_space,
    probe_folder,
    probe_sums,
)
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi import launcher
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import reads_devices
from gan_mpi.runs.log import say

SOUND, UNSOUND = 0, 1  # exit codes
LISTED = 64  # ranks; above that a line a node
LITTLE = 1 << 30  # bytes free
CLOCK_TOLERANCE = 1.0  # seconds


def doctor(comm: Communicator, run_dir: Path, signals: SignalProbe, phases: Phases) -> int:
    """Print all that a run needs, and what is wrong; return 0 or 1.  Collective."""
    facts = collect_facts(comm, with_cards=True)
    shared, notes = shared_cores(facts)
    findings = [*disagreements(facts), *crowded(facts), *shared, *uneven_gpus(facts)]
    findings += [node[0].idle for node in _by_node(facts) if node[0].idle]
    findings += [f"{fact.name}: {fact.wrong.rstrip('.')}" for fact in facts if fact.wrong][:1]
    findings += probe_folder(comm, run_dir) or little_room(comm, run_dir)
    seconds, wrong = probe_sums(comm)
    ahead = clock_differences(comm)
    arrival, unreached = signals.run(comm)
    findings += [*wrong, *wrong_clocks(ahead), *unreached]
    if comm.is_root:
        lines = [
            *table(facts),
            *about_cards(facts),
            _about_mpi(facts),
            _about_sums(facts, seconds),
            _about_clocks(ahead),
            f"SIGUSR1: {arrival}",
            f"{run_dir}: {free_space(run_dir) / 1e9:.1f} GB free",
            *(f"note: {note}." for note in notes),
        ]
        for line in lines:
            say(line)
        for finding in findings:
            say(f"found: {finding}.")
        sound = "found nothing wrong" if not findings else f"{len(findings)} to mend"
        say(f"{sound}, in {phases.total:.1f} s")
    return UNSOUND if findings else SOUND


def table(facts: list[Facts]) -> list[str]:
    """Return a line a rank, or a line a node if there are many ranks."""
    lines = [f"{'rank':>6}  {'host':20}  {'cores':16}  threads  GPUs"]
    shown, before = facts, None
    if len(facts) > LISTED:
        shown = list({fact.host: fact for fact in reversed(facts)}.values())[::-1]
        before = f"the first rank of each of {len(shown)} nodes, of {len(facts)} ranks:"
    lines += [
        f"{fact.rank:6d}  {fact.host:20}  {ranges(fact.cores):16}  {fact.threads:7d}  "
        f"{len(fact.cards):4d}"
        for fact in shown
    ]
    return [before, *lines] if before else lines


def about_cards(facts: list[Facts]) -> list[str]:
    """Return a line for each kind of GPU that a node has, with their numbers there.

    Nodes with the same are one.
    """
    nodes: dict[tuple[str, ...], list[str]] = {}
    for node in _by_node(facts)[:LISTED]:
        there = {card.identity: card for fact in node for card in fact.cards}
        kinds: dict[str, list[int]] = {}
        for number, card in enumerate(there.values()):
            near = f", near cores {ranges(tuple(sorted(card.near)))}" if card.near else ""
            link = f", {card.link}" if card.link else ""
            said = f"{card.name}, {card.memory / 2**30:.0f} GiB{link}{near}"
            kinds.setdefault(said, []).append(number)
        lines = tuple(f"GPU {ranges(tuple(numbers))}: {said}" for said, numbers in kinds.items())
        nodes.setdefault(lines, []).append(node[0].host)
    return [
        line if len(nodes) == 1 else f"{hosts[0]}{' and others' * (len(hosts) > 1)}, {line}"
        for lines, hosts in nodes.items()
        for line in lines
    ]


def ranges(numbers: tuple[int, ...]) -> str:
    """Return ascending numbers such as 0-3,8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _by_node(facts: list[Facts]) -> list[list[Facts]]:
    nodes: dict[str, list[Facts]] = {}
    for fact in facts:
        nodes.setdefault(fact.host, []).append(fact)
    return list(nodes.values())


def crowded(facts: list[Facts]) -> list[str]:
    """Name the nodes whose ranks have more threads than cores; one thread each is no mistake."""
    sentences = []
    for node in _by_node(facts):
        cores = len({core for fact in node for core in fact.cores})
        threads = sum(fact.threads for fact in node)
        if threads > cores and threads > len(node):
            sentences.append(
                f"{node[0].host} has {cores} cores for {threads} threads of {len(node)} ranks; "
                f"leave OMP_NUM_THREADS unset, or set it to {max(1, cores // len(node))}"
            )
    return sentences


def shared_cores(facts: list[Facts]) -> tuple[list[str], list[str]]:
    """Name ranks that share cores: by the launcher's mistake, or since there are no more."""
    mistakes, notes = [], []
    for node in _by_node(facts):
        seen = {core for fact in node for core in fact.cores}
        there = max(len(seen), *(fact.available for fact in node))
        masks: dict[tuple[int, ...], list[int]] = {}
        for fact in node:
            masks.setdefault(fact.cores, []).append(fact.rank)
        for cores, ranks in masks.items():
            if len(ranks) <= len(cores):
                continue
            shared = f"{len(ranks)} ranks of {node[0].host} share {_cores(cores)}"
            if len(node) > there:
                notes.append(f"{shared}: the result is right, but they wait for each other")
            else:
                mistakes.append(
                    f"{shared}, of {there} cores there; bind each rank to cores of its own"
                )
    return mistakes, notes


def _cores(cores: tuple[int, ...]) -> str:
    return f"core{'s' if len(cores) > 1 else ''} {ranges(cores)}"


def uneven_gpus(facts: list[Facts]) -> list[str]:
    """Name a node without a GPU where others have one."""
    without = [fact for fact in facts if not fact.cards]
    if len(without) in (0, len(facts)):
        return []
    return [
        (
            f"{without[0].name} sees no GPU, others do; ask the scheduler for GPUs on all nodes, "
            "or train with --device cpu"
        )
    ]


def wrong_clocks(ahead: dict[str, float]) -> list[str]:
    """Name the nodes whose clock is not root's."""
    return [
        f"the clock of {host} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} "
        "rank 0's; its administrator should look at its time service"
        for host, seconds in ahead.items()
        if abs(seconds) > CLOCK_TOLERANCE
    ]


def little_room(comm: Communicator, run_dir: Path) -> list[str]:
    """Say so if little is free for a run, as root sees it.  Collective."""
    free = comm.on_root(lambda: free_space(run_dir))
    if free > LITTLE:
        return []
    return [
        f"--run-dir: {free / 1e9:.2f} GB are free for {run_dir}; a run wants {LITTLE / 1e9:.0f}"
    ]


def _about_mpi(facts: list[Facts]) -> str:
    gpus = f"; {_about_memory(reads_devices())}" if facts[0].cards else ""
    started = "without a launcher" if launcher.rank() is None else "by its own launcher"
    ranks = f"{len(facts)} rank{'s' * (len(facts) > 1)}"
    return f"{ranks}, {facts[0].versions['MPI']}, started {started}{gpus}"


def _about_memory(reads: bool | None) -> str:
    """Say how gradients of GPUs cross an MPI that `reads` their memory; None: it does not say."""
    if reads is False:
        return "it says that it reads no GPU memory, and gradients cross through pinned memory"
    says = "says that it reads" if reads else "does not say whether it reads"
    return f"it {says} GPU memory, and gradients cross through pinned memory, but for --cuda-aware"


def _about_sums(facts: list[Facts], seconds: dict[int, float]) -> str:
    if len(facts) == 1:
        return "Allreduce: one rank"
    each = ", ".join(f"{_size(size)} {value * 1e6:.0f} us" for size, value in seconds.items())
    largest = max(seconds)
    return f"Allreduce: {each} ({largest / seconds[largest] / 1e9:.2f} GB/s)"


def _size(size: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def _about_clocks(ahead: dict[str, float]) -> str:
    if not ahead:
        return "clocks: one node"
    worst = max(abs(value) for value in ahead.values())
    return f"clocks: at most {worst * 1e3:.1f} ms apart"
