#!/usr/bin/env bash
# The figures on the presets' pages and in docs/, taken anew: figures.sh MNIST [GROUP...], with the
# groups dcgan, federated, effects, rounds and small, or all of them, which takes a day on two cores.
#
# A run that is there, in the folder figures, goes on or is measured again. What is printed of each is
# its command, its last line, and its evaluation: floors with their counts, and classes.
set -euo pipefail

mnist=$(realpath "${1:?the folder of MNIST}")
shift
groups=("$@")
[ $# -gt 0 ] || groups=(small federated dcgan effects rounds)
mkdir -p figures
cd figures
ln -sfn "$mnist" mnist

on() { # on RANKS NAME OPTIONS OF TRAIN...
  local ranks=$1 name=$2
  shift 2
  printf '\n== %s: mpiexec -n %s gan-mpi train %s\n' "$name" "$ranks" "$*"
  mpiexec -n "$ranks" gan-mpi train "$@" --run-dir "$name" | grep -E "^(done|stopped)|finished"
  mpiexec -n 2 gan-mpi evaluate "$name" --datadir mnist \
    2> >(grep -v "was trained on .* and is compared with" >&2) |
    grep -E "^(step|Frechet|kernel|precision|recall|class |share|judged|missing)"
}

small() {
  on 2 small-mnist --preset small --datadir mnist
}

federated() {
  [ -d same ] || gan-mpi data split mnist same --sites 2
  [ -d skewed ] || gan-mpi data split mnist skewed --sites 2 --skew 1
  on 2 federated-20 --preset federated --datadir "same/site-{rank}"
  on 2 federated-1epoch --preset federated --datadir "same/site-{rank}" --every 1epoch
  on 2 lightning-signed --preset lightning --range signed --datadir mnist
  on 2 skewed-20 --preset federated --datadir "skewed/site-{rank}"
  on 2 skewed-1epoch --preset federated --datadir "skewed/site-{rank}" --every 1epoch
  on 2 skewed-local --preset federated --datadir "skewed/site-{rank}" --optimizer-state local
  on 2 skewed-reset --preset federated --datadir "skewed/site-{rank}" --optimizer-state reset
}

dcgan() { # a row of the table on its page, each with two seeds
  local seed steps options
  python3 - >dcgan.txt <<'PYTHON'
from gan_mpi.config.presets import PRESETS

for options, steps, *_ in PRESETS["dcgan"].tried:
    print(steps.replace(",", ""), options.removeprefix("as it is"))
PYTHON
  while read -r steps options; do
    for seed in 0 1; do
      # shellcheck disable=SC2086  # options and their values
      on 2 "dcgan-$steps-$seed$(tr -c 'a-z0-9\n' '-' <<<"$options")" --preset dcgan --datadir mnist \
        --steps "$steps" --seed "$seed" $options </dev/null
    done
  done <dcgan.txt
}

rows() { # the options of the rows of a table of docs/effects.md, which begins at a line like this
  # shellcheck disable=SC2016  # backticks are the table's
  sed -n "/$1/,/^## /"'s/^| `\(--[^`]*\)` | [0-9].*/\1/p' ../docs/effects.md
}

effects() { # one rank, an option changed
  local options
  rows "^# " >effects.txt
  while read -r options; do
    # shellcheck disable=SC2086  # an option and its value
    on 1 "basic$(tr -c 'a-z0-9\n' '-' <<<"$options")" --datadir mnist --steps 1000 $options </dev/null
  done <effects.txt
}

rounds() { # two ranks that average weights
  local options
  rows "^## Sites" >rounds.txt
  while read -r options; do
    # shellcheck disable=SC2086  # options and their values
    on 2 "rounds$(tr -c 'a-z0-9\n' '-' <<<"$options")" --datadir mnist --steps 1000 \
      --average weights $options </dev/null
  done <rounds.txt
}

for group in "${groups[@]}"; do "$group"; done
