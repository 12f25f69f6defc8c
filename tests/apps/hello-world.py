"""The Python app of the cheat sheet: tells $TELL that it is up, says hello, and ends on SIGTERM or SIGINT."""

import os
import signal
import sys


def stop(*_):
    # A second one must not end this in the middle of its last words.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(0)


def tell(what):
    with open(os.environ["TELL"], "w") as pipe:
        pipe.write(f"{what} {os.environ['name']} {os.environ['NODE_APP_INSTANCE']} pid={os.getpid()}\n")


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("hello, world", flush=True)
try:
    tell("up")
    while True:
        signal.pause()
finally:
    tell("bye")
