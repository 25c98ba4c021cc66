#!/usr/bin/env bash
# A private Slurm on this machine: slurm.sh up|down FOLDER [NODES [CPUS_PER_NODE]]
#
# Nodes n1, n2, ... are slurmd processes of one kernel. All state is in FOLDER, where `up` writes
# `env`, which sets SLURM_CONF. Needs root, and installs Debian's slurm-wlm and munge if missing.
# Open MPI needs pmix for srun, which wants a link that only libpmix-dev has.
set -euo pipefail

verb=$1 base=$2 nodes=${3:-4} cpus=${4:-2}
export SLURM_CONF=$base/slurm.conf
host=$(hostname -s)

install_slurm() {
  if command -v slurmctld && command -v slurmd && command -v munged; then return; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurm-wlm munge libpmix2
} >&2

link_pmix() {
  local lib=/usr/lib/x86_64-linux-gnu/pmix2/lib
  if [ -e $lib/libpmix.so.2 ] && [ ! -e $lib/libpmix.so ]; then ln -s libpmix.so.2 $lib/libpmix.so; fi
}

free_ports() { # the first of $1 free neighbours
  python3 - "$1" <<'PYTHON'
import socket, sys
count = int(sys.argv[1])
for first in range(26000, 32000, count):
    try:
        for port in range(first, first + count):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
    except OSError:
        continue
    print(first)
    break
PYTHON
}

configure() {
  local port
  port=$(free_ports $((nodes + 1)))
  local memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) * 9 / 10 / nodes))
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$base/munge.socket
MpiDefault=pmi2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=5,sched_min_interval=0
ReturnToService=2
KillWait=10
MinJobAge=3600
SlurmdTimeout=60
SlurmdParameters=config_overrides
MailProg=/bin/true
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool/%n
TmpFS=$base/tmp/%n
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd-%n.pid
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/slurmd-%n.log
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus RealMemory=$memory
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  printf 'export SLURM_CONF=%s\n' "$SLURM_CONF" >"$base/env"
}

up() {
  install_slurm
  link_pmix
  mkdir -p "$base"/{log,state,munge}
  chmod 755 "$base"
  chmod 700 "$base/munge"
  configure
  (umask 077 && head -c 1024 /dev/urandom >"$base/munge/key")
  munged --force --key-file="$base/munge/key" --socket="$base/munge.socket" \
    --pid-file="$base/munged.pid" --log-file="$base/log/munged.log" --seed-file="$base/munge/seed"
  for _ in $(seq 50); do [ ! -S "$base/munge.socket" ] || break; sleep 0.1; done
  slurmctld -i
  for number in $(seq "$nodes"); do
    mkdir -p "$base/spool/n$number" "$base/tmp/n$number"
    slurmd -N "n$number"
  done
  for _ in $(seq 100); do
    [ "$(sinfo -h -N -o %t | grep -c idle)" = "$nodes" ] && return
    sleep 0.2
  done
  sinfo >&2
  return 1
}

stop() { # the process of a pid file, if it is still that program
  local process
  process=$(cat "$1" 2>/dev/null) || return 0
  [ "$(cat "/proc/$process/comm" 2>/dev/null)" = "$2" ] || return 0
  kill "$process"
  for _ in $(seq 100); do kill -0 "$process" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$process"
}

down() {
  timeout 5 squeue -h -o %A | xargs -r timeout 5 scancel || true
  for _ in $(seq 50); do [ -n "$(timeout 5 squeue -h)" ] || break; sleep 0.2; done
  for file in "$base"/slurmd-*.pid; do stop "$file" slurmd & done
  wait
  stop "$base/slurmctld.pid" slurmctld
  stop "$base/munged.pid" munged
}

"$verb"
