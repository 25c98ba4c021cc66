"""Processes that are forked from one that has imported torch, which takes them a second each.

`python -m ranks.forks SOCKET` waits for clients, of ranks/client.py: mpiexec or a test starts such
a client in the place of `python -c CODE ARGUMENTS`, and it hands its folder, variables and
descriptors to a fork, which does the rest: signals go there, and its end is the client's.
Clients that find it importing wait.  It ends with its standard input.
"""

import atexit
import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

MANY = 32  # descriptors that a client may have


class Forks:
    """The process that forks, started when it is first wanted."""

    def __init__(self, tests, environment):
        """`tests` is the folder of the tests; `environment` returns the variables to start with."""
        self.tests, self.environment, self.process = tests, environment, None

    def python(self, code):
        """Return the start of a command that runs `code` with the arguments that follow."""
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory(prefix="gan-mpi-forks-")
            threads = {"OMP_NUM_THREADS": "1"}  # as many as torch takes under mpiexec
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ranks.forks", self.address],
                cwd=self.tests,
                env={**self.environment(), **threads},
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            while not os.path.exists(self.address):
                assert self.process.poll() is None, "the process that forks did not start"
                time.sleep(0.01)
        return [sys.executable, "-SE", str(self.tests / "ranks/client.py"), self.address, code]

    @property
    def address(self):
        return f"{self.folder.name}/socket"

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.folder.cleanup()


def serve(address):
    """Fork a process for each client; return its code to run, in that process alone."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen(64)
    os.rename(f"{address}.new", address)
    import_all()
    waiting = selectors.DefaultSelector()
    waiting.register(server, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)

    def close(client):
        if client.fileno() >= 0:
            waiting.unregister(client)
            client.close()

    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                for each in waiting.get_map().values():
                    if isinstance(each.fileobj, int) and each.data is not None:
                        os.kill(each.data[0], signal.SIGKILL)
                os._exit(0)
            if key.fileobj is server:
                client, _ = server.accept()
                request, descriptors = receive(client)
                if request is None:  # it is gone already
                    client.close()
                    for descriptor in descriptors:
                        os.close(descriptor)
                    continue
                pid = os.fork()
                if not pid:
                    for each in waiting.get_map().values():
                        if isinstance(each.fileobj, socket.socket):
                            each.fileobj.detach()
                    waiting.close()
                    client.detach()
                    return become(request, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                end = os.pidfd_open(pid)
                waiting.register(end, selectors.EVENT_READ, (pid, client))
                waiting.register(client, selectors.EVENT_READ, pid)
            elif isinstance(key.fileobj, int):  # a fork has ended
                pid, client = key.data
                _, status = os.waitpid(pid, 0)
                waiting.unregister(key.fileobj)
                os.close(key.fileobj)
                with contextlib.suppress(OSError):  # who may be gone
                    client.sendall(struct.pack("i", status))
                close(client)
            elif key.fileobj.fileno() >= 0:
                client, pid = key.fileobj, key.data
                signals = client.recv(64)
                for number in signals or [signal.SIGKILL]:
                    os.kill(pid, number)  # it may have ended, but was not waited for
                if not signals:  # the client is gone
                    close(client)


def import_all():
    """Import what commands import, but do not begin MPI."""
    from ranks import main

    main.import_all()
    import matplotlib.figure  # noqa: F401

    gc.freeze()  # so that no fork looks for garbage in it


def receive(client):
    """Return what a client asks for, None if it was killed meanwhile, and its descriptors."""
    descriptors, words = [], b""
    with contextlib.suppress(OSError):
        head, descriptors, _, _ = socket.recv_fds(client, 4, MANY)
        length = struct.unpack("i", head)[0] if len(head) == 4 else 0
        while len(words) < length and (more := client.recv(length - len(words))):
            words += more
        if length and len(words) == length:
            return json.loads(words), descriptors
    return None, descriptors


def become(request, descriptors):
    """Take a client's place, and return its code."""
    high = [os.dup2(each, 500 + number) for number, each in enumerate(descriptors)]
    os.closerange(3, 500)
    for number, each in zip(request["descriptors"], high, strict=True):
        os.dup2(each, number)
    os.closerange(500, 500 + MANY)
    os.sched_setaffinity(0, request["cores"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv[:] = ["-c", *request["arguments"]]
    sys.path.insert(0, "")
    return request["code"]


def run(code):
    """Run code and end this process as the interpreter would, but for taking torch to pieces."""
    status = 0
    try:
        exec(code, {"__name__": "__main__"})  # noqa: S102 - a test's own
    except SystemExit as left:
        status = left.code or 0
        if not isinstance(status, int):
            sys.stderr.write(f"{status}\n")
            status = 1
    except BaseException as error:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        status = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    MPI = sys.modules["mpi4py.MPI"]
    if MPI.Is_initialized() and not MPI.Is_finalized():  # as mpi4py does at the end
        MPI.Finalize()
    ctypes.PyDLL(None).exit(status)  # in which MPICH tells mpiexec that it has left


if __name__ == "__main__":
    run(serve(sys.argv[1]))
