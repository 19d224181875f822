import json

import hypothesis
import pytest
from hypothesis import strategies as st

from imagetrain_api import progress, schema
from imagetrain_trainer.rendezvous import messages

REPORT = messages.MemberReport(rank=1, incarnation="abc", host="job-0-1.job", collective_port=2222)


@pytest.mark.parametrize(
    "document",
    [
        REPORT,
        schema.replace(REPORT, state="ended", exit_code=-9, message="gone ✓", local_steps=(100, 200), suspect="step"),
        messages.Order(
            generation=3,
            action="run",
            members=(messages.Member(worker=0, host="a", collective_port=1),),
            resume_step=7,
            recoveries=(progress.Recovery(generation=2, reason="Killed", rank=1, lost_seconds=1.5),),
        ),
        messages.Hello(run_id="run", report=REPORT),
    ],
)
def test_a_message_is_one_line_and_comes_back_as_it_was(document):
    line = messages.encode(document)
    assert line.count(b"\n") == 1
    assert messages.decode(type(document), line) == document


def test_what_a_newer_peer_adds_is_left_out_at_every_level():
    value = schema.encode(
        messages.Order(
            members=(messages.Member(worker=0, host="a", collective_port=1),),
            recoveries=(progress.Recovery(generation=1, reason="Killed"),),
        )
    )
    for part in (value, value["members"][0], value["recoveries"][0]):
        part["later"] = {"x": [1]}
    order = messages.decode(messages.Order, json.dumps(value).encode())
    assert order.members[0].host == "a"
    assert order.recoveries[0].reason == "Killed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": -1}, "rank must be an integer >= 0"),
        ({"rank": 256}, "rank must be an integer >= 0 and <= 255"),
        ({"incarnation": "a b"}, "incarnation must be 1-64 letters or digits"),
        ({"host": "a/b"}, "host must be a host name or address"),
        ({"state": "asleep"}, "state must be one of idle, starting, running, ended"),
        ({"exitCode": 256}, "exitCode must be an integer >= -64 and <= 255"),
        ({"step": 1.5}, "step must be an integer"),
        ({"message": "x" * 2049}, "message must be at most 2048 characters long"),
        ({"localSteps": list(range(257))}, "localSteps must hold at most 256 items"),
        ({"silentSeconds": -1}, "silentSeconds must be a number >= 0"),
        ({"isStopping": 1}, "isStopping must be true or false"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(changes, words):
    line = json.dumps({**schema.encode(REPORT), **changes}).encode()
    with pytest.raises(ValueError, match=words):
        messages.decode(messages.MemberReport, line)


def test_the_longest_messages_fit_their_limits():
    record = progress.Recovery(generation=1, reason="x" * 64, message="\x01" * 512, dump_uri="\x01" * 2048)
    report = schema.replace(
        REPORT, message="\x01" * 2048, dump_uri="\x01" * 1024, local_steps=tuple(range(10**15 - 256, 10**15))
    )
    hello = messages.Hello(run_id="r" * 63, report=report, recoveries=(record,) * messages.MAX_RECOVERIES)
    member = messages.Member(worker=255, host="h" * 253, collective_port=65535)
    order = messages.Order(members=(member,) * messages.MAX_MEMBERS, message="\x01" * 4096, recoveries=hello.recoveries)
    assert len(messages.encode(report)) <= messages.MAX_REPORT_BYTES
    assert len(messages.encode(hello)) <= messages.MAX_HELLO_BYTES
    assert len(messages.encode(order)) <= messages.MAX_ORDER_BYTES


@hypothesis.given(st.binary(max_size=200))
def test_garbage_is_a_value_error_and_nothing_else(line):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
        messages.decode(messages.MemberReport, line)
