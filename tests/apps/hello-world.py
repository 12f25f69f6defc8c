"""The Python app of the cheat sheet: tells $TELL that it is up, says hello, and ends on SIGTERM or SIGINT."""

import os
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))


def tell(what):
    with open(os.environ["TELL"], "w") as pipe:
        pipe.write(f"{what} {os.environ['name']} {os.environ['NODE_APP_INSTANCE']} pid={os.getpid()}\n")


print("hello, world", flush=True)
tell("up")
try:
    while True:
        signal.pause()
finally:
    tell("bye")
