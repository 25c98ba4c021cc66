"""Stands for a process that ranks/forks.py has forked: `python -SE client.py SOCKET CODE WORDS`."""

import json
import os
import signal
import socket
import struct
import sys

KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD}


def main(address, code, *arguments):
    caught = {n for n in signal.valid_signals() - KEPT if n < signal.SIGRTMIN}
    signal.pthread_sigmask(signal.SIG_BLOCK, caught)  # until they can be handed on
    ignored = [int(n) for n in caught if signal.getsignal(n) == signal.SIG_IGN]
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    descriptors = [each for each in descriptors if os.path.exists(f"/proc/self/fd/{each}")]
    connection = socket.socket(socket.AF_UNIX)
    for number in caught:
        signal.signal(number, lambda number, _: connection.send(bytes([number])))
    connection.connect(address)
    asked = {"code": code, "arguments": arguments, "descriptors": descriptors}
    asked |= {"folder": os.getcwd(), "environment": dict(os.environ)}
    asked |= {"cores": [*os.sched_getaffinity(0)], "ignored": ignored}
    words = json.dumps(asked).encode()
    socket.send_fds(connection, [struct.pack("i", len(words))], descriptors)
    connection.sendall(words)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, caught)
    for each in descriptors:
        if each != 2:
            os.close(each)  # as whose it is does, to tell mpiexec that it has left MPI
    status = connection.recv(4)
    if len(status) < 4:
        sys.exit("the process that forks is gone")
    code = os.waitstatus_to_exitcode(*struct.unpack("i", status))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
