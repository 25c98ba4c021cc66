#!/usr/bin/env bash
# Hosts h1, h2, ... on this machine: hosts.sh up FOLDER N | exec FOLDER HOST COMMAND... |
# bytes FOLDER HOST | link FOLDER HOST up|down | down FOLDER
#
# Each has its own network, host name, processes, shared memory and /run, and an sshd; the file system
# is shared. `ssh` in FOLDER is the client that knows them, `hosts` lists them. Needs root, and installs
# openssh and iproute2 if missing.
set -euo pipefail

verb=$1 base=$2
shift 2
[ "$verb" != up ] || { mkdir -p "$base" && echo "gan-mpi-$$" >"$base/prefix"; }
prefix=$(cat "$base/prefix")
switch=$prefix-switch

install_ssh() {
  if [ -x /usr/sbin/sshd ] && command -v ssh && command -v ip; then return; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    openssh-server openssh-client iproute2
} >&2

inside() { # inside HOST COMMAND...
  local process
  process=$(cat "$base/$1.pid")
  shift
  nsenter -t "$process" -n -u -i -m -p -- env -C "$PWD" TMPDIR=/run/tmp "$@"
}

configure() { # the files of ssh for N hosts
  [ -f "$base/hostkey" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/hostkey"
  [ -f "$base/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/id"
  { echo "127.0.0.1 localhost" && for n in $(seq "$1"); do echo "10.77.0.$n h$n"; done; } >"$base/etc-hosts"
  seq -f 'h%g' "$1" >"$base/hosts"
  cat >"$base/sshd_config" <<CONF
HostKey $base/hostkey
AuthorizedKeysFile $base/id.pub
StrictModes no
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv TMPDIR=/run/tmp
MaxStartups 100
UseDNS no
CONF
  cat >"$base/ssh_config" <<CONF
Host h*
  User root
  IdentityFile $base/id
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  BatchMode yes
  ConnectTimeout 5
CONF
  printf '#!/bin/sh\nexec /usr/bin/ssh -F %s/ssh_config "$@"\n' "$base" >"$base/ssh"
  chmod +x "$base/ssh"
}

boot() { # host number $1
  local host=h$1 space=$prefix-h$1
  ip netns add "$space"
  ip -n "$space" link set lo up
  ip -n "$switch" link add "v$host" type veth peer name eth0 netns "$space"
  ip -n "$switch" link set "v$host" master bridge up
  ip -n "$space" addr add "10.77.0.$1/24" dev eth0
  ip -n "$space" link set eth0 up
  setsid ip netns exec "$space" unshare --uts --ipc --mount --propagation private --pid --fork \
    --kill-child --mount-proc bash -c "
      hostname $host
      mount -t tmpfs -o mode=1777 tmpfs /dev/shm
      mount -t tmpfs -o mode=755 tmpfs /run
      mkdir -p /run/sshd /run/tmp
      mount --bind $base/etc-hosts /etc/hosts
      exec /usr/sbin/sshd -D -f $base/sshd_config -o ListenAddress=10.77.0.$1
    " </dev/null >"$base/$host.log" 2>&1 &
  local above=$! process=
  for _ in $(seq 100); do
    process=$(pgrep -P "$above" | head -1 || true)
    if [ -n "$process" ] && [ "$(cat "/proc/$process/comm")" = sshd ]; then break; fi
    sleep 0.05
  done
  echo "$process" >"$base/$host.pid"
}

up() {
  install_ssh
  chmod 755 "$base"
  configure "$1"
  ip netns add "$switch"
  ip -n "$switch" link add bridge type bridge
  ip -n "$switch" link set bridge up
  for n in $(seq "$1"); do boot "$n"; done
  for n in $(seq "$1"); do
    for _ in $(seq 50); do
      if inside h1 "$base/ssh" "h$n" true 2>/dev/null; then continue 2; fi
      sleep 0.1
    done
    echo "no answer from h$n" >&2
    return 1
  done
}

bytes() { # what the host sent over its link
  ip -n "$prefix-$1" -s -j link show eth0 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["stats64"]["tx"]["bytes"])'
}

link() { # the cable of a host
  ip -n "$switch" link set "v$1" "$2"
}

down() {
  while read -r host; do
    kill -9 "$(cat "$base/$host.pid")" 2>/dev/null || true
    ip netns del "$prefix-$host" 2>/dev/null || true
  done <"$base/hosts"
  ip netns del "$switch" 2>/dev/null || true
}

case $verb in
  up | bytes | link | down) "$verb" "$@" ;;
  exec) inside "$@" ;;
  *) exit 2 ;;
esac
