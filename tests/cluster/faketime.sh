#!/usr/bin/env bash
# Install Debian's faketime, a library that shows a process another time of day, if it is missing.
set -euo pipefail
dpkg -s libfaketime >/dev/null 2>&1 || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libfaketime
} >&2
