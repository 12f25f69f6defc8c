"""A queue worker: takes jobs, a line each, from the named pipe $QUEUE, and finishes the one at hand on SIGTERM.

`grow` keeps 100 MB; `crash` is a job that nobody thought of, so the worker ends with a traceback; any other is done."""

import os
import signal
import sys


def stop(_signal, _frame):
    # Nothing is printed in here: the signal may have come in the middle of a print.
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
kept = []
try:
    # For reading and writing, so that it does not end with the one who brought the last job.
    with open(os.open(os.environ["QUEUE"], os.O_RDWR), buffering=1) as queue:
        print(f"worker pid {os.getpid()} waits for jobs", flush=True)
        for job in queue:
            job = job.strip()
            if job == "grow":
                kept.append(bytearray(b"x" * (100 << 20)))
            if job == "crash":
                raise ValueError(job)
            print(f"worker did {job}", flush=True)
except SystemExit:
    print("worker has finished", flush=True)
