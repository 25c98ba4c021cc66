"""The architecture is the table of rooms in CONTRIBUTING.md: imports point down."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "gan_mpi"
ROOMS = re.findall(
    r"^\| (\d+) \| `(\w+)(/|\.py)` \|",
    (TOP / "CONTRIBUTING.md").read_text(),
    re.MULTILINE,
)
FLOORS = {name: int(floor) for floor, name, _ in ROOMS}
FILES = sorted(PACKAGE.rglob("*.py"))
WITH_CLICK = {"__main__", "cli", "commands", "options"}
# Files that work on a login node, without torch or MPI.
LIGHT = (
    [path for path in FILES if path.parent.name == "runs" and path.stem != "checkpoint"]
    + [path for path in FILES if path.parent.name == "datasets"]
    + [PACKAGE / "programs" / name for name in ("status.py", "report.py")]
)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield the modules that a file imports, at its top or in a function, with their names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name


def rooms_imported(path):
    names = (name.split(".") for name in imports(path))
    return {name[1] for name in names if name[0] == "gan_mpi" and len(name) > 1}


def test_the_table_of_rooms_names_what_is_there():
    there = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert FLOORS.keys() == there - {"__init__"}
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    for folder in {path.parent for path in FILES} - {PACKAGE / "commands"}:
        assert len(list(folder.glob("*.py"))) <= 14, folder.name


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_imports_point_down(name):
    for path in FILES:
        if room(path) == name:
            for other in rooms_imported(path) - {name, "__version__"}:
                assert FLOORS[other] < FLOORS[name], (
                    f"{path.relative_to(TOP)} must not import {other}"
                )


def test_one_package_imports_mpi():
    users = {
        room(path) for path in FILES if any(name.startswith("mpi4py") for name in imports(path))
    }
    assert users == {"mpi"}


def test_only_the_command_line_knows_click():
    users = {
        room(path) for path in FILES if any(name.split(".")[0] == "click" for name in imports(path))
    }
    assert users <= WITH_CLICK


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: f"{room(path)}/{path.stem}")
def test_files_for_a_login_node_import_neither_torch_nor_mpi(path):
    heavy = re.compile(r"torch|gan_mpi\.mpi\.(?!launcher)|gan_mpi\.parallel")
    assert not [name for name in imports(path) if heavy.match(name)]


def test_what_they_import_imports_neither():
    names = [".".join(path.relative_to(TOP).with_suffix("").parts) for path in LIGHT]
    code = f"import sys, {', '.join(names)}; print({{'torch', 'mpi4py'}} & {{*sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_in_a_sentence_what_it_is_for(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = text.partition("\n\n")[0]
    assert first.endswith(".") and "\n" not in first
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert text == first
