"""Stands for a process that ranks/forks.py has forked: `python -SE client.py SOCKET CODE WORDS`."""

import json
import os
import signal
import socket
import struct
import sys

KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD}


def main(address, code, *arguments):
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    descriptors = [each for each in descriptors if os.path.exists(f"/proc/self/fd/{each}")]
    connection = socket.socket(socket.AF_UNIX)
    for number in signal.valid_signals() - KEPT:
        if number < signal.SIGRTMIN:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
    connection.connect(address)
    asked = {"code": code, "arguments": arguments, "descriptors": descriptors}
    asked |= {"folder": os.getcwd(), "environment": dict(os.environ)}
    words = json.dumps(asked).encode()
    socket.send_fds(connection, [struct.pack("i", len(words))], descriptors)
    connection.sendall(words)
    for each in descriptors:
        os.close(each)  # as whose it is does, to tell mpiexec that it has left MPI
    status = connection.recv(4)
    if len(status) < 4:
        sys.exit("the process that forks is gone")
    code = os.waitstatus_to_exitcode(*struct.unpack("i", status))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
