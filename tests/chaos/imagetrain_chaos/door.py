"""`door.py PID PORT`: listens in the network namespace that it is started in, and connects in that of process PID.

A socket stays in the namespace that it was made in: this program makes it, then becomes the test cluster's relay in
the other namespace. Standard library alone.
"""

import os
import pathlib
import shutil
import socket
import sys

_RELAY = pathlib.Path(__file__).parents[2] / "cluster" / "imagetrain_cluster" / "relay.py"


def main() -> None:
    """Listen, and become the relay."""
    pid, port = sys.argv[1:]
    listener = socket.create_server(("", int(port)))
    listener.set_inheritable(True)
    enter = shutil.which("nsenter") or "/usr/bin/nsenter"
    relay = [sys.executable, "-I", "-S", str(_RELAY), str(listener.fileno()), "127.0.0.1", port]
    os.execv(enter, [enter, f"--net=/proc/{pid}/ns/net", "--", *relay])


if __name__ == "__main__":
    main()
