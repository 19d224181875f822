"""A worker that trains nothing: it keeps the worker protocol and ends as a script says. For process control only.

$STAND_IN_SCRIPT is JSON: {"RANK.ATTEMPT": {...}}, where `RANK.*` and `*.*` stand for all. Keys of an entry:
    exit          exit status (default 0)
    kill          signal that it sends itself instead
    after         seconds before the end (default 0.1); null: never
    on_terminate  exit status after SIGTERM (default 82, preempted); null: SIGTERM is ignored
    message       of the outcome document
    progress      fields of /progress in camelCase
"""

import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import time
from typing import Any


def main() -> None:
    rank = os.environ["IMAGETRAIN_RANK"]
    work_dir = pathlib.Path(os.environ["IMAGETRAIN_WORK_DIR"])
    script = _entry(rank, _count_attempt(work_dir))
    on_terminate = script.get("on_terminate", 82)
    signal.signal(signal.SIGTERM, lambda *_: None if on_terminate is None else _end(on_terminate, "saved"))
    config = json.loads(pathlib.Path(os.environ["IMAGETRAIN_CONFIG"]).read_text())
    _serve(config["endpoints"][int(rank)], script.get("progress", {"phase": "training"}))
    sys.stderr.write(f"stand-in rank {rank} pid {os.getpid()}\n")
    (work_dir / "pid").write_text(str(os.getpid()))
    after = script.get("after", 0.1)
    time.sleep(3600 if after is None else after)
    if "kill" in script:
        os.kill(os.getpid(), script["kill"])
    _end(script.get("exit", 0), script.get("message", ""))


def _entry(rank: str, attempt: int) -> dict[str, Any]:
    script: dict[str, dict[str, Any]] = json.loads(os.environ.get("STAND_IN_SCRIPT", "{}"))
    for key in (f"{rank}.{attempt}", f"{rank}.*", "*.*"):
        if key in script:
            return script[key]
    return {}


def _count_attempt(work_dir: pathlib.Path) -> int:
    counter = work_dir / "attempts"
    attempt = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(attempt))
    return attempt


def _end(status: int, message: str) -> None:
    outcome = {"exitCode": status, "reason": "Scripted", "message": message}
    pathlib.Path(os.environ["IMAGETRAIN_TERMINATION_MESSAGE"]).write_text(json.dumps(outcome))
    os._exit(status)


def _serve(endpoint: dict[str, Any], progress: dict[str, Any]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(progress).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer((endpoint["host"], endpoint["statusPort"]), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main()
