import json

import pytest

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, latest, publisher
from imagetrain_trainer.storage import store
from publish_cases import HookedStore, build_draft, check_invariant

OLD = "2026-01-14T10:15:30.000000Z"
NEW = "2026-01-14T10:15:30.000001Z"


def publish(output, files, run_id, created_at):
    return publisher.publish_run(output, build_draft(run_id=run_id, created_at=created_at), files)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("run-a", OLD), ("run-b", NEW), "run-b"),
        (("run-a", NEW), ("run-b", OLD), "run-a"),
        (("run-a", OLD), ("run-b", OLD), "run-b"),  # equal times: the greater id
        (("run-b", OLD), ("run-a", OLD), "run-b"),
    ],
)
def test_the_newer_run_stays_latest_in_whatever_order_they_finish(output, files, first, second, expected):
    publish(output, files, *first)
    published = publish(output, files, *second)
    assert published.is_latest == (expected == second[0])
    assert catalog.load_manifest(output).manifest.run_id == expected


def test_two_runs_that_finish_together_leave_the_newer_one_at_every_interleaving(tmp_path, files):
    counted = HookedStore(store.open_store(f"{tmp_path}/counted"))
    publish(counted, files, "run-a", OLD)
    for created_first, created_second in ((OLD, NEW), (NEW, OLD)):
        for pause in range(len(counted.calls)):
            output = store.open_store(f"{tmp_path}/{created_first == OLD}-{pause}")

            def publish_the_other(number, output=output, pause=pause, created=created_second):
                if number == pause:
                    publish(output, files, "run-b", created)

            publish(HookedStore(output, before=publish_the_other), files, "run-a", created_first)
            assert sorted(check_invariant(output)) == ["run-a", "run-b"]
            expected = "run-a" if created_first == NEW else "run-b"
            assert catalog.load_manifest(output).manifest.run_id == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda output: output.put(names.LATEST_KEY, b"not json"),
        lambda output: output.delete([f"{names.run_prefix('run-z')}/manifest.json"]),
        lambda output: output.put(f"{names.run_prefix('run-z')}/manifest.json", b"{}"),
        lambda output: output.put(names.LATEST_KEY, json.dumps({"runId": "run-z", "manifest": "x"}).encode()),
    ],
)
def test_a_pointer_that_names_no_readable_run_is_moved(output, files, damage):
    publish(output, files, "run-z", NEW)
    damage(output)
    assert publish(output, files, "run-a", OLD).is_latest
    assert catalog.load_manifest(output).manifest.run_id == "run-a"


def test_a_pointer_that_others_keep_moving_ends_with_an_error(file_output, files):
    published = publish(file_output, files, "run-a", OLD)
    file_output.delete([names.LATEST_KEY])

    class AlwaysFirst(HookedStore):
        def put(self, key, data, **_):
            raise errors.ObjectExistsError(f"another was first at {key} with {len(data)} bytes")

    with pytest.raises(errors.StorageUnavailableError, match="moved it 20 times in a row"):
        latest.advance(AlwaysFirst(file_output), published.loaded)
