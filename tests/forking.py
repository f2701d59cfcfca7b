"""Runs that start where the imports are over: `python tests/forking.py` serves `running.forked`.

The server imports what runs import, which takes a process many times longer than a small run. For
each request, a line of JSON on its standard input, it forks a process which does the rest, and
answers with that process's exit status. Streams, signals, exit status, environment and working
directory are the process's own; what is read from the environment on import is the server's.
"""

import gc
import json
import os
import runpy
import signal
import sys
from importlib import import_module

IMPORTED = (
    "analysis.experiment",  # trainings are seldom run so: each imports its own
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "sklearn.cluster"),
    *("scipy.linalg", "scipy.special", "transformers.models.wav2vec2.modeling_wav2vec2"),
)
SECONDS = 300  # after which a process is ended


def requested() -> list[str]:
    """Comes back in a process of its own for each request, with its arguments."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(request["streams"][stream - 1], os.O_WRONLY), stream)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        return request["arguments"]
    sys.exit()


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    sys.argv = requested()
    if sys.argv[0] == "-c":
        exec(compile(sys.argv.pop(1), "-c", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
