"""What is written down is true: launch scripts, README, changelog."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gan_mpi import __version__
from gan_mpi.cli import cli

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in (TOP / "docs").glob("*.md")}
SCRIPTS = sorted((TOP / "launch").glob("*.s*"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_launch_scripts_are_short_sound_and_explained(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 40
    assert "set -euo pipefail" in text and '"$@"' in text
    subprocess.run(["bash", "-n", script], check=True)
    assert f"`{script.name}`" in (TOP / "launch" / "README.md").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_launch_scripts_pass_shellcheck(script):
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; `make check` runs it")
    subprocess.run([shellcheck, "-s", "bash", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_launch_scripts_start_is_understood(script):
    (line,) = re.findall(r"^[^#].*gan-mpi\"? (train.*)$", script.read_text(), re.MULTILINE)
    words = [word for word in shlex.split(line) if word not in ("$@", "&")]
    parse(cli, [*words, "--steps", "20"])


def test_the_commands_of_the_documents_are_understood():
    """Every gan-mpi line in a code block parses; DIR and RUN are folders, NAME a preset."""
    launch = (TOP / "launch" / "README.md").read_text()
    text = "\n".join([README, launch, *DOCS.values()])
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(gan-mpi [^`]+)`", text)
    found = 0
    for line in lines:
        _, found_it, arguments = line.partition("gan-mpi ")
        arguments = shlex.split(arguments.partition(" > ")[0], comments=True)
        if not found_it or not arguments or arguments[0] not in cli.commands:
            continue
        arguments = [part for part in arguments if part not in ("...", "--help")]
        parse(cli, [{"NAME": "basic", "3": "RUN"}.get(part, part) for part in arguments])
        found += 1
    assert found >= 10


def parse(group, arguments):
    """Parse a command line down to its last command, without running it."""
    name, *rest = arguments
    command = group.commands[name]
    if isinstance(command, click.Group):
        parse(command, rest)
    elif rest:
        command.make_context(name, rest).close()


def test_the_readme_leads_to_files_that_are_there():
    for folder, text in [(TOP, README), *((TOP / "docs", text) for text in DOCS.values())]:
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / target).exists(), target


def test_the_readme_fits_a_first_look():
    assert len(README.splitlines()) <= 160
    assert (
        max(len(line) for line in README.splitlines() if not line.startswith(("|", "python3")))
        < 150
    )


def test_every_exit_code_of_the_help_is_in_the_readme():
    text = CliRunner().invoke(cli, ["train", "--help"]).output
    codes = re.findall(r"\b(\d+) \w+", text.partition("Exit codes:")[2].partition("Everyday")[0])
    assert codes == ["0", "1", "2", "64", "75", "76", "77"]
    for code in codes:
        assert f"| {code} |" in DOCS["runs.md"]


def test_the_changelog_knows_this_version():
    assert f"## {__version__}\n" in (TOP / "CHANGELOG.md").read_text()
    assert f"version: {__version__}\n" in (TOP / "CITATION.cff").read_text()
