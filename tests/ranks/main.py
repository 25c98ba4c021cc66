"""What the ranks do in tests.  They only answer; pytest asserts, so nothing deadlocks."""

import faulthandler
import json

from gan_mpi.mpi.world import leave, world
from ranks import metrics, parallel, programs, sites, training

PLACES = (metrics, programs, training, parallel, sites)


def main(function, arguments, timeout):
    faulthandler.dump_traceback_later(timeout, exit=True)
    comm = world()
    answers = comm.gather(answer(comm, function, *arguments))
    if comm.is_root:
        print("ANSWERS", json.dumps(answers), flush=True)
    leave()


def answer(comm, function, *arguments):
    """Call a function of one of PLACES by its name, or several() of this file."""
    if function == "several":
        return several(comm, *arguments)
    place = next(place for place in PLACES if hasattr(place, function))
    return getattr(place, function)(comm, *arguments)


def several(comm, calls):
    """Answer [function, *arguments] one after another: a start of the ranks takes seconds."""
    return [answer(comm, function, *arguments) for function, *arguments in calls]
