"""Batch scripts that stop in time and submit themselves again."""

import re
import shlex

from gan_mpi.cluster.schedulers import SCHEDULERS, WARNING, Job

WAIT = (
    "# A signal ends a wait early; the ranks may still be saving.",
    "code=0",
    'wait "$job" || code=$?',
    'while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do',
    "  code=0",
    '  wait "$job" || code=$?',
    "done",
)


def write_script(job: Job) -> str:
    """Return a complete batch script.  Raises UserError for what the scheduler does not know."""
    scheduler = SCHEDULERS[job.scheduler]
    directives = [line for line in scheduler.directives(job) if line]
    lines = ["#!/usr/bin/env bash"]
    asked = [line.removeprefix(scheduler.prefix).strip() for line in job.directives]
    lines += [f"{scheduler.prefix} {line}" for line in [*directives, *asked]]
    lines += ["set -euo pipefail", ""]
    lines += [scheduler.enter] if scheduler.enter else []
    if job.modules:
        loads = [f"module load {shlex.quote(module)}" for module in job.modules]
        lines += ["set +u # some module systems read unset variables", *loads, "set -u"]
    if job.venv:
        lines.append("# shellcheck source=/dev/null")
        lines.append(f"source {shlex.quote(job.venv + '/bin/activate')}")
    lines += [f"export OMP_NUM_THREADS={job.cpus_per_rank}", ""]
    starts = f"gan-mpi supervise --max-restarts {job.max_restarts} -- " * (job.max_restarts > 0)
    launch = f"{starts}{scheduler.launch(job)}"
    lines += [f'{launch} {_program(job, scheduler.task)} "$@" &', "job=$!"]
    lines.append(f"trap '{scheduler.forward}' USR1")
    is_early = '[ "$code" -eq 75 ]'
    if scheduler.cancels:
        long_before = f'[ "$SECONDS" -gt {job.time - WARNING} ] || cancelled=1'
        why = "# long before its end: cancelled; save, and submit nothing"
        lines.append(f"trap '{long_before}; {scheduler.forward}' {scheduler.cancels} {why}")
        is_early += ' && [ -z "${cancelled:-}" ]'
    lines += ["", *WAIT]
    if scheduler.resubmit:
        again = "# stopped in time, with a checkpoint: go on in a new job"
        lines += ["", f"if {is_early}; then {again}", f"  {scheduler.resubmit}", "fi"]
    return "\n".join([*lines, 'exit "$code"', ""])


def _program(job: Job, task: str) -> str:
    words = " ".join(_quote(word, task) for word in ["gan-mpi", *job.command])
    if job.container is None:
        return words
    gpus = "--nv " if job.gpus_per_node else ""
    return f'apptainer exec {gpus}--bind "$PWD" {shlex.quote(job.container)} {words}'


def task_number(task: str) -> re.Pattern[str]:
    """Return what a command line says for the number of an array's task, its variable `task`."""
    return re.compile(rf"\$(?:{task}\b|{{{task}}})")


def _quote(word: str, task: str) -> str:
    """Return a word for a shell, in which only the number of an array's task is filled in."""
    if not task:
        return shlex.quote(word)
    parts = task_number(task).split(word)
    return f'"${{{task}}}"'.join(shlex.quote(part) if part else "" for part in parts) or "''"
