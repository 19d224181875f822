"""The processes of a pack: answers in order for any number of them, and every end of one explained."""

import pytest

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import encoding, images, pack_database, pack_list, pack_worker, pack_workers


def make_work(source):
    return pack_worker.Work(source, encoding.EncodingOptions(), None, images.DEFAULT_POLICY)


@pytest.fixture
def rows():
    entries = packing_sources.make_entries(70, 30)
    return [pack_list.Row(position, e.key, 0, e.locator) for position, e in enumerate(entries)]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_chunks_come_in_the_order_of_the_rows(rows, processes, size):
    lists = [rows[start : start + size] for start in range(0, len(rows), size)]
    with pack_workers.open_workers(make_work(packing_sources.TableSource([])), processes) as run:
        chunks = list(run(lists))
    assert [facts.position for chunk in chunks for facts in chunk.records] == list(range(100))
    assert [len(chunk.frames) for chunk in chunks] == [sum(f.frame_bytes for f in chunk.records) for chunk in chunks]


def test_rows_are_taken_no_further_ahead_than_the_processes_work(rows):
    taken = []

    def take():
        for row in rows:
            taken.append(row)
            yield [row]

    with pack_workers.open_workers(make_work(packing_sources.TableSource([])), 2) as run:
        for done, _ in enumerate(run(take()), start=1):
            assert len(taken) <= done + 6


def test_a_bug_in_a_source_shows_its_traceback(rows):
    work = make_work(packing_sources.FaultySource([]))
    with (
        pytest.raises(RuntimeError, match=r"(?s)in a packing process:.*ZeroDivisionError: a/0"),
        pack_workers.open_workers(work, 2) as run,
    ):
        list(run([rows]))


def test_a_process_that_cannot_start_is_explained(rows, monkeypatch):
    monkeypatch.setattr(pack_workers, "_PROGRAM", "raise SystemExit(3)")
    with (
        pytest.raises(errors.ConfigError, match="ended with status 3: its own message says why"),
        pack_workers.open_workers(make_work(packing_sources.TableSource([])), 2) as run,
    ):
        list(run([rows] * 100))


def test_a_full_disk_under_the_work_list_is_named(tmp_path):
    database = pack_database.open_scratch(tmp_path / "list.sqlite")
    database.execute("PRAGMA max_page_count = 10")
    database.execute("CREATE TABLE big (data BLOB)")
    with (
        pytest.raises(errors.DiskFullError, match=r"no space is left for .*list.sqlite"),
        pack_database.translate(tmp_path / "list.sqlite"),
    ):
        database.execute("INSERT INTO big VALUES (zeroblob(1000000))")
    database.close()
