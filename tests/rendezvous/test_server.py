import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from imagetrain_api import exit_codes, schema
from imagetrain_trainer.rendezvous import member, messages, server, settings
from rendezvous_groups import Guilt

Code = exit_codes.ExitCode
SUPPORT = pathlib.Path(__file__).parents[1] / "support"
FAST = {"silence_seconds": 1.5, "quiet_seconds": 0.8, "window_seconds": 0.3, "unreported_seconds": 60.0}


def _poll(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def _report(rank, incarnation="first", **fields):
    return messages.MemberReport(
        rank=rank, incarnation=f"{incarnation}-{rank}", host="127.0.0.1", collective_port=1, **fields
    )


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(workers=2, port=0, judge=lambda _reports, _now: Guilt(), **limits):
            limits = settings.Settings(workers=workers, **{**FAST, **limits})
            made = server.Server(("127.0.0.1", port), "run", limits, judge)
            stack.callback(made.close, 0.2)
            return made, limits

        yield start


@pytest.fixture
def join():
    with contextlib.ExitStack() as stack:

        def start(port, rank, limits, host="127.0.0.1", **fields):
            made = member.Member((host, port), "run", _report(rank, **fields), limits)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def member_process():
    with contextlib.ExitStack() as stack:

        def start(port, rank, incarnation):
            command = [sys.executable, str(SUPPORT / "rendezvous_member_process.py"), str(port), str(rank), incarnation]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield start


def _connect(port, line=b""):
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.sendall(line)
    return sock


def _is_closed(sock):
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def _hello(rank, run_id="run", **fields):
    return messages.encode(messages.Hello(run_id=run_id, report=_report(rank, **fields)))


def _run(member_, rank, generation, **fields):
    member_.report(_report(rank, generation=generation, state="running", phase="training", **fields))


def test_members_meet_run_and_leave_together(serve, join):
    made, limits = serve(workers=3)
    members = [join(made.port, rank, limits, local_steps=(40, 80)) for rank in range(3)]
    _poll(lambda: all(each.order().action == "run" for each in members))
    assert members[1].order().resume_step == 80
    for rank, each in enumerate(members):
        each.report(_report(rank, generation=1, state="ended", exit_code=0))
    _poll(lambda: all((each.order().action, each.order().exit_code) == ("leave", 0) for each in members))
    for each in members:
        each.close()
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 4  # everybody was told, so it does not linger


def test_a_member_that_is_away_when_all_are_done_is_told_while_the_server_lingers(serve, join):
    made, limits = serve()
    chief = join(made.port, 0, limits)
    with _connect(made.port, _hello(1)) as gone:
        _poll(lambda: chief.order().action == "run")
        gone.sendall(messages.encode(_report(1, generation=1, state="ended", exit_code=0)))
        _poll(lambda: made._coordinator._seats.report(1).is_done)
    chief.report(_report(0, generation=1, state="ended", exit_code=0))
    _poll(lambda: chief.order().action == "leave")
    chief.close()
    late = join(made.port, 1, limits, generation=1, state="ended", exit_code=0)
    made.close(5)
    assert (late.order().action, late.order().exit_code) == ("leave", 0)


def test_a_killed_supervisor_is_noticed_at_once_and_its_successor_taken_in(serve, join, member_process):
    made, limits = serve()
    mine = join(made.port, 0, limits)
    killed = member_process(made.port, 1, "first")
    _poll(lambda: mine.order().action == "run")
    _run(mine, 0, 1)
    _poll(lambda: made._coordinator._seats.report(1).state == "running")
    killed.kill()
    began = time.monotonic()
    _poll(lambda: mine.order().action == "stop")
    assert time.monotonic() - began < 5  # the window is 0.3 s
    mine.report(_report(0, generation=1, state="idle"))
    member_process(made.port, 1, "second")
    _poll(lambda: mine.order().action == "run" and mine.order().generation == 2)
    (record,) = made.recoveries()
    assert (record.rank, record.reason) == (1, "Lost")


def test_a_frozen_supervisor_is_noticed_and_taken_in_again_when_it_thaws(serve, join, member_process):
    made, limits = serve()
    mine = join(made.port, 0, limits)
    frozen = member_process(made.port, 1, "first")
    _poll(lambda: mine.order().action == "run")
    _run(mine, 0, 1)
    _poll(lambda: made._coordinator._seats.report(1).state == "running")
    os.kill(frozen.pid, signal.SIGSTOP)
    _poll(lambda: mine.order().action == "stop")
    assert made.recoveries()[-1].reason == "Frozen"
    mine.report(_report(0, generation=1, state="idle"))
    os.kill(frozen.pid, signal.SIGCONT)
    _poll(lambda: mine.order().action == "run" and mine.order().generation == 2)
    orders = [frozen.stdout.readline().split() for _ in range(4)]
    assert ["1", "run"] in orders
    assert ["1", "stop"] in orders


def test_a_supervisor_that_stands_still_while_its_connection_lives_counts_as_frozen(serve, join):
    made, limits = serve()
    mine = join(made.port, 0, limits)
    stuck = join(made.port, 1, dataclasses.replace(limits, unreported_seconds=0.5))
    _poll(lambda: mine.order().action == "run")
    _run(mine, 0, 1)
    _poll(made.recoveries)
    assert (made.recoveries()[0].rank, made.recoveries()[0].reason) == (1, "Frozen")
    mine.report(_report(0, generation=1, state="idle", heard=mine.order().sequence))

    def goes_on():
        stuck.report(_report(1, heard=stuck.order().sequence))
        mine.report(_report(0, generation=1, state="idle", heard=mine.order().sequence))
        return mine.order().generation == 2

    _poll(goes_on)


def test_a_half_open_connection_counts_as_frozen_and_is_closed(serve, join):
    made, limits = serve()
    mine = join(made.port, 0, limits)
    with _connect(made.port, _hello(1)) as half_open:  # it says hello and then nothing more, nor does it close
        _poll(lambda: mine.order().action == "run")
        half_open.settimeout(20)
        assert _is_closed(half_open)
    _poll(made.recoveries)
    assert made.recoveries()[0].reason == "Frozen"


def test_members_find_a_coordinator_that_came_back_elsewhere_in_time(serve, join):
    first, limits = serve()
    port = first.port
    members = [join(port, rank, limits) for rank in range(2)]
    _poll(lambda: all(each.order().action == "run" for each in members))
    for rank, each in enumerate(members):
        _run(each, rank, 1)
    _poll(lambda: first._coordinator._seats.report(1).state == "running")
    first.close(0)
    second, _ = serve(port=port)
    _poll(lambda: all(each.order().action == "stop" for each in members))
    for rank, each in enumerate(members):
        each.report(_report(rank, generation=1, state="idle"))
    _poll(lambda: all(each.order().generation == 2 for each in members))
    assert [record.rank for record in second.recoveries()] == [0]


def test_a_member_that_finds_nobody_leaves_in_the_end(join):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    limits = settings.Settings(workers=2, start_timeout_seconds=0.5)
    alone = join(port, 1, limits)
    order = _poll(lambda: alone.order() if alone.order().action == "leave" else None)
    assert order.exit_code == Code.PEER_LOST
    assert order.message.startswith(f"Rank 0 could not be reached at 127.0.0.1:{port} for 0.5 s")


def test_a_member_leaves_a_coordinator_that_is_frozen(join):
    limits = settings.Settings(workers=2, start_timeout_seconds=1.0, silence_seconds=0.4)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel takes connections, nobody answers
        alone = join(mute.getsockname()[1], 1, limits)
        order = _poll(lambda: alone.order() if alone.order().action == "leave" else None)
    assert order.message.endswith("it was silent for 0.4 s.")


@pytest.mark.parametrize(
    ("end", "code"), [({"state": "ended", "exit_code": 82}, Code.PREEMPTED), ({"state": "ended", "exit_code": 0}, 0)]
)
def test_a_member_that_is_asked_to_stop_does_not_wait_for_an_absent_coordinator(join, end, code):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    alone = join(port, 1, settings.Settings(workers=2))
    alone.report(_report(1, generation=1, is_stopping=True, **end))
    assert (alone.order().action, alone.order().exit_code) == ("leave", code)


def test_a_name_that_appears_late_is_resolved_anew_at_each_try(serve, join, monkeypatch):
    made, limits = serve(workers=1)
    resolve, asked = socket.getaddrinfo, []

    def late(host, *arguments, **options):
        if host != "job-0.job":
            return resolve(host, *arguments, **options)
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    mine = join(made.port, 0, limits, host="job-0.job")
    _poll(lambda: mine.order().action == "run")
    assert len(asked) == 3


STRANGERS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\n",
    b"[" * 100_000 + b"\n",
    b'{"runId":"run"}\n',
    b'{"runId":"run","report":{"rank":NaN}}\n',
    b"x" * (messages.MAX_HELLO_BYTES + 1),
    _hello(0, run_id="another"),
    _hello(2),  # the group has two ranks
    _hello(1) + b"[]\n",
    _hello(1) + b"x" * (messages.MAX_REPORT_BYTES + 1) + b"\n",
    _hello(1) + messages.encode(_report(0)),  # it speaks for another
]


@pytest.mark.parametrize("line", STRANGERS, ids=range(len(STRANGERS)))
def test_whoever_does_not_keep_to_the_protocol_is_cut_off_and_harms_nobody(serve, join, line):
    made, limits = serve()
    with _connect(made.port) as stranger:
        with contextlib.suppress(ConnectionError):
            stranger.sendall(line)
        assert _is_closed(stranger)
    mine = [join(made.port, rank, limits, incarnation="good") for rank in range(2)]
    _poll(lambda: all(each.order().action == "run" for each in mine))


def test_whoever_says_nothing_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(server, "HELLO_SECONDS", 0.2)
    made, _ = serve()
    with _connect(made.port) as stranger:
        assert _is_closed(stranger)


def test_strangers_cannot_keep_members_out_for_long(serve, join, monkeypatch):
    monkeypatch.setattr(server, "HELLO_SECONDS", 1.0)
    made, limits = serve(workers=1)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(_connect(made.port))
        assert len(made._connections) <= 2 + 64
        mine = join(made.port, 0, limits)
        _poll(lambda: mine.order().action == "run")


def test_a_peer_that_does_not_read_holds_up_nobody(serve, join):
    made, limits = serve()
    mine = join(made.port, 0, limits)
    with _connect(made.port, _hello(1)) as deaf:
        _poll(lambda: mine.order().action == "run")
        for step in range(300):
            deaf.sendall(messages.encode(_report(1, generation=1, state="running", step=step)))
        _run(mine, 0, 1)
        _poll(lambda: made._coordinator._seats.report(0).state == "running")


def test_a_judge_that_fails_does_not_keep_a_hung_group_alive(serve, join):
    def fail(_reports, _now):
        raise KeyError("rank")

    made, limits = serve(workers=1, judge=fail)
    mine = join(made.port, 0, limits)
    _poll(lambda: mine.order().action == "run")
    _run(mine, 0, 1, suspect="step", has_dump=True, message="Rank 0 hangs.")
    _poll(lambda: mine.order().action == "stop")
    assert made.recoveries()[-1].message == "Rank 0 hangs."


def test_sixty_four_members_run_and_recover(serve, join):
    made, limits = serve(workers=64, silence_seconds=10)
    members = {rank: join(made.port, rank, limits) for rank in range(64)}
    _poll(lambda: all(each.order().action == "run" for each in members.values()), 60)
    for rank, each in members.items():
        _run(each, rank, 1)
    _poll(lambda: len(made._coordinator._current.running()) == 64)
    members[40].report(_report(40, generation=1, state="ended", exit_code=-9))
    for rank, each in members.items():
        wanted = "wait" if rank == 40 else "stop"
        _poll(lambda each=each, wanted=wanted: each.order().action == wanted)
        each.report(_report(rank, generation=1, state="idle"))
    _poll(lambda: all(each.order().generation == 2 for each in members.values()), 60)
    assert [record.rank for record in made.recoveries()] == [40]


def test_an_unknown_field_is_ignored(serve):
    made, _ = serve(workers=1)
    line = schema.encode(messages.Hello(run_id="run", report=_report(0)))
    line["report"]["mood"] = {"deep": [1, 2]}
    line["colour"] = "blue"
    with _connect(made.port, json.dumps(line).encode() + b"\n") as sock:
        assert messages.decode(messages.Order, sock.makefile("rb").readline()).action == "run"
