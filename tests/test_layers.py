"""The architecture as a list: a module may import only from the sets before its own."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gan_mpi"
LAYERS = [
    {
        "__init__",
        "errors",
        "launcher",
        "deadline",
        "phases",
        "presets",
        "schedule",
        "alarms",
    },
    {"config"},
    {
        "files",
        "comm",
        "cores",
        "schedulers",
        "stopping",
        "streams",
        "losses",
        "optimizers",
        "images",
        "charts",
        "board",
    },
    {"jobscript", "log", "rundir", "segments", "facts", "probes"},
    {"checkpoint", "parallel", "device", "datasets", "batch"},
    {
        "contradictions",
        "latents",
        "networks",
        "stats",
        "step",
        "metrics",
        "evaluations",
    },
    {"configure", "sampling", "extras", "averaging"},
    {"state", "extractor"},
    {"prepare"},
    {"sites"},
    {"formats", "feed", "evaluation", "opening"},
    {"monitor", "turn", "gallery"},
    {"journal", "explain", "federated"},
    {
        "train",
        "sample",
        "evaluate",
        "export",
        "animate",
        "train_classifier",
        "doctor",
        "status",
        "report",
    },
    {"study"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
BELOW = {
    module: set().union(*LAYERS[:i])
    for i, layer in enumerate(LAYERS)
    for module in layer
}


def imports(path):
    """Yield the modules of gan_mpi that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gan_mpi":
            names = {alias.name for alias in node.names}
            yield from names - {"__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "gan_mpi."
        ):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (
                a.name.split(".")[1]
                for a in node.names
                if a.name.startswith("gan_mpi.")
            )


def test_imports_point_down():
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 30
    for path in files:
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        wrong = set(imports(path)) - BELOW[module] - {module}
        assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_one_module_imports_mpi():
    users = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if "mpi4py import" in path.read_text()
    ]
    assert users == ["comm.py"]


def test_only_the_command_line_knows_click():
    users = [
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "import click" in path.read_text()
    ]
    assert set(users) == {"__main__.py", "cli.py", "commands"}
