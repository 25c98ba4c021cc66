#!/usr/bin/env bash
# The figures on the presets' pages and in docs/, taken anew: figures.sh MNIST [GROUP...], with the
# groups dcgan, federated, spread, effects, rounds and small, or all of them, which takes half a day
# on two cores; dcgan:300, dcgan:1000 and dcgan:5000 are its rows of so many steps.
#
# A run that is there, in the folder figures, goes on or is measured again. What is printed of each is
# its command, its last line, and its evaluation: floors with their counts, and classes.
set -euo pipefail

mnist=$(realpath "${1:?the folder of MNIST}")
shift
groups=("$@")
[ $# -gt 0 ] || groups=(small federated dcgan spread effects rounds)
mkdir -p figures
cd figures
ln -sfn "$mnist" mnist

on() { # on RANKS NAME OPTIONS OF TRAIN...
  local ranks=$1 name=$2
  shift 2
  printf '\n== %s: mpiexec -n %s gan-mpi train %s\n' "$name" "$ranks" "$*"
  mpiexec -n "$ranks" gan-mpi train "$@" --run-dir "$name" | grep -E "^(done|stopped)|finished"
  if [[ " $* " == *" --datadir "* ]]; then measured "$name" --datadir mnist; else measured "$name"; fi
}

measured() { # measured RUN OPTIONS OF EVALUATE...
  mpiexec -n 2 gan-mpi evaluate "$@" \
    2> >(grep -v "was trained on .* and is compared with" >&2) |
    grep -E "^(step|Frechet|kernel|precision|recall|class |classifier |share|judged|missing)"
}

small() { # with other options on one rank: MNIST, and drawn glyphs
  local options name
  on 2 small-mnist --preset small --datadir mnist
  on 2 small-glyphs --preset small
  for options in "" "--beta1 0.5 --r1 1" "--r1 1" "--r1 1 --beta2 0.99"; do
    name="small-1$(tr -c 'a-z0-9\n' '-' <<<"${options:+ $options}")"
    # shellcheck disable=SC2086  # options and their values
    on 1 "$name-mnist" --preset small --datadir mnist $options
    # shellcheck disable=SC2086
    on 1 "$name-glyphs" --preset small $options
  done
  on 1 small-1--r1-1---beta2-0-99-seed-1 --preset small --r1 1 --beta2 0.99 --seed 1
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

dcgan_of() { # dcgan_of STEPS: rows of the table on its page, in its order, with the seeds it has
  local seed options run
  python3 - "$1" >"dcgan-$1.txt" <<'PYTHON'
import sys

from gan_mpi.config.presets import PRESETS

for options, steps, *floors in PRESETS["dcgan"].tried:
    if steps.replace(",", "") == sys.argv[1]:
        for seed, measured in enumerate(floors):
            if measured:
                print(seed, options.removeprefix("as it is"))
PYTHON
  [ -s "dcgan-$1.txt" ] || { echo "no row has $1 steps" >&2; exit 1; }
  while read -r seed options; do
    run="dcgan-$1-$seed$(tr -c 'a-z0-9\n' '-' <<<"$options")"
    if [ "$options" = "--ema 0" ]; then # of the same run, G's own weights
      printf '\n== %s: gan-mpi evaluate dcgan-%s-%s --no-ema\n' "$run" "$1" "$seed"
      measured "dcgan-$1-$seed" --no-ema --datadir mnist </dev/null
      continue
    fi
    # shellcheck disable=SC2086  # options and their values
    on 2 "$run" --preset dcgan --datadir mnist --steps "$1" --seed "$seed" $options </dev/null
  done <"dcgan-$1.txt"
}

dcgan() { # dcgan [STEPS]
  local steps
  for steps in ${1:-300 1000 5000}; do dcgan_of "$steps"; done
}

rows() { # the options of the rows of a table of docs/effects.md, which begins at a line like this
  # shellcheck disable=SC2016  # backticks are the table's
  sed -n "/$1/,/^## /"'s/^| `\(--[^`]*\)` | [0-9].*/\1/p' ../docs/effects.md
}

spread() { # one rank, with three seeds
  local seed
  for seed in 0 1 2; do
    on 1 "basic-seed-$seed" --datadir mnist --steps 1000 --seed "$seed"
  done
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

for group in "${groups[@]}"; do
  IFS=: read -r name part <<<"$group"
  "$name" ${part:+"$part"}
done
