import pytest

from imagetrain_trainer.worker import stack_text

ROOT = "/venv/lib/python3.11/site-packages"
MAIN_IN_STEP = f"""
    quick_execute ({ROOT}/tensorflow/python/eager/execute.py:53)
    call_flat ({ROOT}/tensorflow/python/eager/polymorphic_function/concrete_function.py:1322)
    run ({ROOT}/imagetrain_trainer/training/execution.py:95)
    _run_execution ({ROOT}/imagetrain_trainer/training/loop.py:182)
    <module> ({ROOT}/imagetrain_trainer/training/main.py:216)
"""
MAIN_IN_EXPORT = f"""
    quick_execute ({ROOT}/tensorflow/python/eager/execute.py:53)
    convert ({ROOT}/imagetrain_trainer/publish/tflite.py:80)
"""
MAIN_IN_OWN_CODE = f"""
    wait_for_file (/home/me/blocks.py:31)
    _finish_epoch ({ROOT}/imagetrain_trainer/training/loop.py:250)
"""
MAIN_IN_NATIVE_CODE = f"""
    syscall (libc.so.6)
    TFE_Py_Execute (_pywrap_tfe.so)
    quick_execute ({ROOT}/tensorflow/python/eager/execute.py:53)
    run ({ROOT}/imagetrain_trainer/training/execution.py:95)
"""
CALLED = f"""
    call (/home/me/blocks.py:12)
    __call__ ({ROOT}/tensorflow/python/ops/script_ops.py:148)
"""
READING = f"""
    wait (/usr/lib/python3.11/threading.py:327)
    __next__ ({ROOT}/imagetrain_trainer/data/prefetch.py:190)
    _read ({ROOT}/imagetrain_trainer/training/inputs.py:80)
    generator_py_func ({ROOT}/tensorflow/python/data/ops/from_generator_op.py:219)
    __call__ ({ROOT}/tensorflow/python/ops/script_ops.py:148)
"""
IDLE = f"""
    wait (/usr/lib/python3.11/threading.py:327)
    _run ({ROOT}/imagetrain_trainer/data/prefetch.py:220)
"""


def spied(*threads: str) -> str:
    names = ["MainThread", *(f"Thread-{number}" for number in range(1, len(threads)))]
    parts = [f'Thread 0x7F{number} (idle): "{name}"{threads[number]}' for number, name in enumerate(names)]
    return "Process 12: python\nPython v3.11.7\n\n" + "".join(parts[1:] + parts[:1])


def told(*threads: str) -> str:
    """Return the same as faulthandler writes it: the main thread last, no names, no native code."""
    text = []
    for number, thread in enumerate(reversed(threads)):
        word = "Current thread" if number == len(threads) - 1 else "Thread"
        text.append(f"{word} 0x00007f0{number} (most recent call first):")
        for line in thread.strip().splitlines():
            function, _, place = line.strip().partition(" (")
            file, _, number_text = place[:-1].rpartition(":")
            if file:
                text.append(f'  File "{file}", line {number_text} in {function}')
        text.append("")
    return "\n".join(text)


@pytest.mark.parametrize("form", [spied, told])
@pytest.mark.parametrize(
    ("threads", "wait", "place"),
    [
        ((MAIN_IN_STEP, IDLE), "peers", "run (execution.py:95)"),
        ((MAIN_IN_NATIVE_CODE, IDLE), "peers", "run (execution.py:95)"),
        ((MAIN_IN_STEP, READING), "input", "__next__ (prefetch.py:190)"),
        ((MAIN_IN_STEP, IDLE, CALLED), "", "call (blocks.py:12)"),
        ((MAIN_IN_STEP, READING, CALLED), "", "call (blocks.py:12)"),  # the user's code holds the step up
        ((MAIN_IN_OWN_CODE, READING), "", "wait_for_file (blocks.py:31)"),  # nobody asks for input now
        ((MAIN_IN_EXPORT,), "", "convert (tflite.py:80)"),
    ],
)
def test_wait_and_place_are_read_from_the_stacks(form, threads, wait, place) -> None:
    dump = stack_text.read_dump(form(*threads))
    assert (dump.waits_for, dump.place) == (wait, place)


@pytest.mark.parametrize("why", ["is_busy", "is_stopped"])
def test_process_that_computes_or_is_stopped_waits_for_nobody(why) -> None:
    dump = stack_text.read_dump(spied(MAIN_IN_STEP, IDLE), **{why: True})
    assert (dump.waits_for, dump.place) == ("", "run (execution.py:95)")


def test_head_has_the_calls_of_the_guilty_thread_and_fits_a_status() -> None:
    assert stack_text.head(spied(MAIN_IN_OWN_CODE)) == "wait_for_file (blocks.py:31) < _finish_epoch (loop.py:250)"
    deep = "\n" + "".join(f"    recurse_further (/home/me/blocks.py:{line})\n" for line in range(200))
    head = stack_text.head(spied(deep))
    assert len(head) == stack_text.MAX_HEAD
    assert head.startswith("recurse_further (blocks.py:0) < recurse_further (blocks.py:1)")


@pytest.mark.parametrize("text", ["", "Process 12: state T, 4 threads\n", "Thread 0x7F (idle)\n", "\x00\ufffd (("])
def test_dump_without_stacks_tells_nothing_and_fails_nowhere(text) -> None:
    assert stack_text.read_dump(text) == stack_text.StackDump(text=text)
    assert stack_text.head(text) == ""
