"""A training process that trains nothing: it does what $STAND_IN says. For process control only; it has no TensorFlow.

exit:N      ends with status N
raise       ends by an exception
kill:N      sends itself signal N
sleep       says "ready" and stays
orphan      leaves a child that outlives it, tells its process id, and ends
tell        prints what it finds about itself as JSON
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Act."""
    word, _, number = os.environ["STAND_IN"].partition(":")
    if word == "exit":
        sys.exit(int(number))
    if word == "raise":
        raise RuntimeError("as asked")
    if word == "kill":
        os.kill(os.getpid(), int(number))
    if word == "sleep":
        _say("ready")
        time.sleep(3600)
    if word == "orphan":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        _say(child.pid)
    if word == "tell":
        _say(json.dumps(_describe()))


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _describe() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "variables": dict(os.environ),
        "temporary": tempfile.gettempdir(),
        "random": random.random(),
        "interrupt": signal.getsignal(signal.SIGINT) == signal.default_int_handler,
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


if __name__ == "__main__":
    main()
