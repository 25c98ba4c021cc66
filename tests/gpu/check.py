"""The path of a GPU, on a card: check.py [STAGE...], of parity, paths and speed.

Each stage should take two minutes on an H100, and ends in a table and a JSON file in --out, of
which $OUT, if it is set, gets a copy.
Without a card, --device cpu --steps 3 runs them with the CPU in both roles.  The repository is used
as it lies there; what Python misses of mpi4py and MPI comes from wheels in .gpu/, MNIST from
.gpu/mnist or $GAN_MPI_DATA/mnist (see `make gpu-files`).
"""

import argparse
import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
LONGEST = {"cuda": 150, "cpu": 600}  # seconds of a command
AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 4))  # commands
MNIST = [TOP / ".gpu" / "mnist", Path(os.environ.get("GAN_MPI_DATA", "/nowhere")) / "mnist"]
# Preset, batch, precision, steps, how many times as fast as the better peer it should be.
CONTESTS = (
    ("basic", 1024, "fp32", 1000, 5.0),
    ("lightning", 64, "fp32", 3000, 5.0),
    ("dcgan", 128, "fp32", 500, 1.0),
    ("dcgan-206b", 128, "fp32", 500, 1.0),
    ("dcgan-206b", 128, "tf32", 500, 1.0),
)


class Check:
    """The device, the environment of commands, and what has come of them."""

    def __init__(self, device: str, steps: int, out: Path) -> None:
        self.device, self.steps, self.out = device, steps, out
        self.runs = tempfile.mkdtemp(prefix="runs-", dir=out)  # no run goes on with an older one
        self.found: list[dict[str, object]] = []
        site = Path(tempfile.mkdtemp(prefix="gan-mpi-gpu-"))
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")]),
            "PATH": os.pathsep.join([str(site / "bin"), os.environ["PATH"]]),
            "XDG_CACHE_HOME": str(out / "cache"),
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // AT_ONCE // 2)),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        self._bring_mpi(site)
        self.mpiexec = str(Path(sys.executable).parent / "mpiexec")
        if not Path(self.mpiexec).exists():
            self.mpiexec = "mpiexec"
        self.environment["MPIEXEC"] = self.mpiexec

    def _bring_mpi(self, site: Path) -> None:
        """Install the wheels of .gpu/, if this Python cannot begin MPI by itself."""
        probe = [sys.executable, "-c", "import mpi4py.MPI"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return
        wheels = sorted(map(str, (TOP / ".gpu").glob("*.whl")))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "-I"]
        subprocess.run([*pip, "--prefix", str(site), *wheels], check=True)
        (packages,) = site.glob("lib/python3*/site-packages")
        path = [str(TOP), str(packages), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(path)
        self.environment["MPI4PY_LIBMPI"] = str(min(site.glob("lib/libmpi.so.*")))

    def run(
        self, name: str, *words: object, code: int = 0, says: str = "", threads: int = 0
    ) -> str:
        """Run a command; note whether it ended with that code and said that.  Return its output."""
        command = [str(word) for word in words]
        environment = self.environment | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        begin = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=self.runs,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LONGEST[self.device],
                check=False,
            )
            output, ended = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            output, ended = (error.stdout or b"").decode(errors="replace") + f"\n{error}", -1
        passed = ended == code and says in output
        self.note(name, passed, time.perf_counter() - begin, command=shlex.join(command))
        if not passed:
            tail = "\n".join(output.splitlines()[-15:])
            print(f"--- {name}: {shlex.join(command)} ended with {ended}\n{tail}", flush=True)
        return output

    def note(self, name: str, passed: bool, seconds: float, **more: object) -> None:
        """Note what has come of a check."""
        self.found.append({"name": name, "passed": passed, "seconds": round(seconds, 1), **more})

    def gan_mpi(self, *words: object, ranks: int = 0) -> list[object]:
        """Return how `gan-mpi` is started on so many ranks, or without mpiexec."""
        launch = [self.mpiexec, "-n", ranks] if ranks else []
        return [*launch, sys.executable, "-m", "gan_mpi", *words]

    def mnist(self) -> Path | None:
        """Return the folder of MNIST, if it is there."""
        return next((folder for folder in MNIST if folder.is_dir()), None)

    def train(self, run_dir: str, *words: object, ranks: int = 0) -> list[object]:
        """Return how a small dcgan is trained on the device."""
        batch = 64 if self.device == "cuda" else 8
        small = ("--glyphs", 2000, "--batch", batch, "--preset", "dcgan", "--checkpoint-every", 10)
        given = ("train", "--device", self.device, *small, "--run-dir", run_dir, *words)
        return self.gan_mpi(*given, ranks=ranks)

    def finish(self, stage: str, began: float) -> bool:
        """Print the table of a stage, write its JSON, and return whether all passed."""
        passed = all(each["passed"] for each in self.found)
        about = json.loads(self.run_quietly(sys.executable, HERE / "about.py", self.device))
        seconds = round(time.perf_counter() - began, 1)
        whole = {"stage": stage, "passed": passed, "seconds": seconds, **about}
        (self.out / f"gpu-{stage}.json").write_text(
            json.dumps({**whole, "checks": self.found}, indent=1) + "\n"
        )
        if "OUT" in os.environ:
            shutil.copy(self.out / f"gpu-{stage}.json", os.environ["OUT"])
        print(f"== {stage}: {'passed' if passed else 'FAILED'} in {seconds} s; {json.dumps(about)}")
        for each in self.found:
            rest = {k: v for k, v in each.items() if k not in ("name", "passed", "command")}
            print(f"{'ok  ' if each['passed'] else 'FAIL'} {each['name']:44} {json.dumps(rest)}")
        print(flush=True)
        self.found = []
        return passed

    def run_quietly(self, *words: object) -> str:
        """Return what a command prints."""
        command = [str(word) for word in words]
        done = subprocess.run(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, check=True
        )
        return done.stdout.splitlines()[-1]


def parity(check: Check) -> None:
    """Compare the device with the CPU: every preset, and what an update can do besides."""
    program = (HERE / "parity.py", check.device, check.steps)
    for name, ranks in (("one rank", 1), ("two ranks", 2)):
        words = (check.mpiexec, "-n", ranks, sys.executable, *program)
        output = check.run(name, *words, threads=max(1, (os.cpu_count() or 1) // ranks))
        for line in output.splitlines():
            if line.startswith("{"):
                found = json.loads(line)
                check.found.append({**found, "name": f"{name}, {found['name']}"})


def paths(check: Check) -> None:
    """Go through what people do with a run; chains of commands beside one another."""
    device = ("--device", check.device)
    extras = ("--replay", 2, "--conditional", "--ema", 10)
    ten, twenty = ("--steps", 10), ("--steps", 20)

    def resume(
        run_dir: str, steps: int, ranks: int = 0, device: str = check.device
    ) -> list[object]:
        words = ("train", "--device", device, "--resume", run_dir, "--steps", steps)
        return check.gan_mpi(*words, ranks=ranks)

    def same(one: str, other: str) -> list[object]:
        step = "checkpoint-000020.pt"
        return [sys.executable, HERE / "same.py", f"{one}/{step}", f"{other}/{step}"]

    def to_the_bit() -> None:
        check.run("20 steps", *check.train("a", *twenty, *extras))
        check.run("the same again", *check.train("c", *twenty, *extras))
        check.run("20 steps, launched as one", *check.train("l", *twenty, *extras, "--graphs"))
        check.run("10 steps", *check.train("b", *ten, *extras))
        check.run("10 more, resumed", *resume("b", 20))
        check.run("resumed to the bit", *same("a", "b"))
        check.run("run again to the bit", *same("a", "c"))
        check.run("launched as one to the bit", *same("a", "l"))
        check.run("on with the CPU", *resume("b", 22, device="cpu"))
        check.run("from the CPU on with the device", *resume("b", 24))

    def several() -> None:
        check.run("two ranks", *check.train("d", *twenty, "--conditional", ranks=2))
        local = ("--batch-norm", "local", *twenty)
        check.run("copies beside computing", *check.train("u", *local, "--overlap", ranks=2))
        check.run("copies waited for", *check.train("v", *local, "--no-overlap", ranks=2))
        check.run("beside computing to the bit", *same("u", "v"))
        explained = ("--steps", 1, "--explain")
        check.run("two ranks, explained", *check.train("x", *explained, ranks=2))
        aware = check.train("w", *ten, "--cuda-aware", ranks=2)  # of an MPI of a wheel
        check.run("an MPI that reads no GPU", *aware, code=1, says="'--cuda-aware': ")
        few = ("--steps", 4, "--batch", 2)
        check.run("a rank without images", *check.train("e", *few, ranks=3))
        of_sites = ("--average", "weights", "--every", 4, "--steps", 12)
        check.run("sites", *check.train("f", *of_sites, ranks=2))
        check.run("sites, resumed", *resume("f", 16, ranks=2))

    def measured() -> None:
        words = ("train-classifier", "--glyphs", 2000, "--epochs", 1)
        check.run("classifier", *check.gan_mpi(*words))
        evaluated = ("--evaluate-every", 10, "--samples", 500)
        check.run("evaluated meanwhile", *check.train("h", *twenty, *evaluated, ranks=2))
        check.run("evaluated", *check.gan_mpi("evaluate", "h", "--samples", 500))

    def others() -> None:
        points = ("train", *device, "--preset", "paddle-uniform", *ten, "--run-dir", "p")
        check.run("points", *check.gan_mpi(*points))
        check.run("trained", *check.train("o", *ten))
        check.run("sampled", *check.gan_mpi("sample", "o", "--out", "o.png"))
        out = ("export", "o", "--format", "safetensors", "--out", "g.safetensors")
        check.run("exported", *check.gan_mpi(*out))
        wide = ("--precision", "bf16", "--d-norm", "spectral", "--r1", 1)
        check.run("bfloat16, spectral norm, R1", *check.train("s", *ten, *wide))
        diverges = check.train("n", "--steps", 200, "--lr", "1e30")
        check.run("what is not finite ends it", *diverges, code=76, says="diverged: the")
        mnist = check.mnist()
        if mnist is None:
            check.note("CNTK's losses: no MNIST in .gpu/mnist", True, 0.0)
            return
        words = ("train", *device, "--datadir", mnist, "--log-format", "cntk", "--run-dir", "cntk")
        check.run("CNTK's example", *check.gan_mpi(*words))
        check.run("CNTK's losses", sys.executable, HERE / "published.py", "cntk/log.txt")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(chain) for chain in (to_the_bit, several, measured, others)]:
            done.result()


def speed(check: Check) -> None:
    """One rank beside DDP and Lightning; then where the time of a step goes."""
    compare = (TOP / "benchmarks" / "compare.py", "--device", check.device, "--ranks", 1)
    mnist = check.mnist()
    data = () if mnist is None else ("--datadir", mnist)
    for preset, batch, precision, steps, wanted in CONTESTS:
        as_file = check.out / f"speed-{preset}-{precision}.json"
        steps = check.steps if check.device == "cpu" else steps
        length = ("--pairs", 1, "--steps", steps, "--seconds", 0)
        what = ("--preset", preset, "--batch", batch, "--precision", precision)
        peers = ("--peers", "ddp,lightning_ddp")
        words = (*compare, *what, *peers, *length, "--json", as_file, *data)
        check.run(f"{preset}, batch {batch}, {precision}", sys.executable, *words)
        if as_file.exists():
            found = json.loads(as_file.read_text())["contestants"]
            times = {name: round(each["median_times_the_first"], 2) for name, each in found.items()}
            least = min(times[name] for name in times if name != "gan-mpi")
            check.found[-1] |= {
                "ms": {name: round(1000 * each["median"], 3) for name, each in found.items()},
                "times": times,
                "wanted": wanted,
                "passed": check.device == "cpu" or least >= wanted,
            }
    each = dict.fromkeys(f"{preset}:{batch}" for preset, batch, *_ in CONTESTS)
    output = check.run(
        "profiles", sys.executable, HERE / "steps.py", check.device, check.steps, *each
    )
    for line in output.splitlines():
        if line.startswith("{"):
            check.found.append({"passed": True, **json.loads(line)})


STAGES = {"parity": parity, "paths": paths, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], metavar="STAGE")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{datetime.datetime.now(datetime.UTC):%F %T} UTC", flush=True)
    check = Check(given.device, given.steps, given.out.resolve())
    passed = []
    for stage in given.stages or STAGES:
        began = time.perf_counter()
        STAGES[stage](check)
        passed.append(check.finish(stage, began))
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
