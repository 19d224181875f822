import dataclasses
import json
import threading

import pytest

import publish_cases
from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, publisher
from publish_cases import HookedStore, build_draft, build_variant, check_invariant, write_files

RUN = names.run_prefix("run-a")


class Crash(BaseException):
    """The process died here: no handler of the code under test may catch it."""


def crash_at(crash, failure):
    def hook(number):
        if number == crash:
            raise failure

    return hook


def count_calls(tmp_path, files):
    counted = HookedStore(publisher_store(tmp_path, "counted"))
    publisher.publish_run(counted, build_draft(), files)
    return len(counted.calls)


def publisher_store(tmp_path, name):
    from imagetrain_trainer.storage import store  # noqa: PLC0415

    return store.open_store(f"file://{tmp_path}/{name}/")


def test_everything_is_named_with_its_digest_and_the_manifest_comes_last(output, files):
    hooked = HookedStore(output)
    published = publisher.publish_run(hooked, build_draft(), files)
    assert check_invariant(output) == ["run-a"]
    assert published.is_own
    assert published.is_latest
    assert len(published.loaded.manifest.artifacts) == 6
    writes = [call for call in hooked.calls if call.split()[0] in ("put", "upload_file", "put_if_match")]
    assert writes[-2:] == ["put manifest.json", "put latest.json"]
    assert all(call.startswith("upload_file published/") for call in writes[:-2])


def test_variants_name_their_files(output, files):
    manifest = publisher.publish_run(output, build_draft(), files).loaded.manifest
    keys = {each.path for each in manifest.artifacts}
    folder, tflite = (each.path for each in manifest.variants)
    assert tflite in keys
    assert f"{folder}/saved_model.pb" in keys


def test_a_refused_variant_names_no_file(file_output, files):
    (files / "model_int8.tflite").unlink()
    refused = build_variant("tflite_int8", "model_int8.tflite", is_published=False, refusal="too slow.")
    draft = build_draft(variants=(build_variant("saved_model", "saved_model"), refused))
    manifest = publisher.publish_run(file_output, draft, files).loaded.manifest
    assert manifest.variants[1].path == ""
    assert not any("int8" in each.path for each in manifest.artifacts)


def test_a_run_that_published_no_model_does_not_become_the_latest(file_output, files):
    refused = build_variant("tflite_int8", "model_int8.tflite", is_published=False, refusal="too slow.")
    published = publisher.publish_run(file_output, build_draft(variants=(refused,)), files)
    assert not published.is_latest
    assert not file_output.exists(names.LATEST_KEY)


def test_publishing_again_changes_nothing_and_returns_the_first(output, files, tmp_path):
    first = publisher.publish_run(output, build_draft(), files)
    before = [(each.key, each.etag) for each in output.list()]
    other = write_files(tmp_path / "other", seed=1)
    second = publisher.publish_run(output, build_draft(created_at="2026-02-01T00:00:00.000000Z"), other)
    assert second.loaded == first.loaded
    assert not second.is_own
    assert [(each.key, each.etag) for each in output.list()] == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_call_leaves_no_wrong_manifest_and_the_next_attempt_completes(tmp_path, files, when):
    total = count_calls(tmp_path, files)
    assert total > 15
    other = write_files(tmp_path / "other", seed=1)
    for crash in range(total):
        output = publisher_store(tmp_path, f"{when}-{crash}")
        with pytest.raises(Crash):
            publisher.publish_run(HookedStore(output, **{when: crash_at(crash, Crash())}), build_draft(), files)
        survived = check_invariant(output)
        published = publisher.publish_run(output, build_draft(created_at="2026-01-15T00:00:00.000000Z"), other)
        assert check_invariant(output) == ["run-a"]
        assert published.is_own == (not survived)
        assert published.is_latest
        assert catalog.load_manifest(output).manifest.run_id == "run-a"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_storage_failure_at_any_call_is_raised_or_harmless_and_the_next_attempt_completes(tmp_path, files, when):
    """`after`: the store did it, but the answer was lost."""
    for failing in range(count_calls(tmp_path, files)):
        output = publisher_store(tmp_path, f"{when}-{failing}")
        failure = errors.StorageUnavailableError("lost")
        hooked = HookedStore(output, **{when: crash_at(failing, failure)})
        try:
            publisher.publish_run(hooked, build_draft(), files)
        except errors.StorageUnavailableError:
            check_invariant(output)
        else:
            assert check_invariant(output) == ["run-a"]
        publisher.publish_run(output, build_draft(), files)
        assert check_invariant(output) == ["run-a"]
        assert catalog.load_manifest(output).manifest.run_id == "run-a"


def test_a_conditional_write_whose_answer_was_lost_counts_as_this_attempts_own(file_output, files):
    """A client that retries the PUT of its own manifest is told that it exists."""
    total = []

    class LostAnswer(HookedStore):
        def put(self, key, data, **options):
            result = super().put(key, data, **options)
            if key == names.MANIFEST_KEY:
                total.append(key)
                raise errors.ObjectExistsError("exists")
            return result

    published = publisher.publish_run(LostAnswer(file_output), build_draft(), files)
    assert total
    assert published.is_own


def test_two_publishers_of_one_run_agree_on_one_manifest_at_every_interleaving(tmp_path, files):
    other = write_files(tmp_path / "other", seed=1)
    winners = set()
    for pause in range(count_calls(tmp_path, files)):
        output = publisher_store(tmp_path, f"pause-{pause}")
        seconds = []

        def publish_the_other(number, output=output, pause=pause, seconds=seconds):
            if number == pause:
                seconds.append(publisher.publish_run(output, build_draft(job="other"), other))

        first = publisher.publish_run(HookedStore(output, before=publish_the_other), build_draft(), files)
        assert check_invariant(output) == ["run-a"]
        assert first.loaded == seconds[0].loaded
        assert first.is_own != seconds[0].is_own
        winners.add(first.is_own)
        named = {f"{RUN}/{each.path}" for each in first.loaded.manifest.artifacts}
        assert {each.key for each in output.list(f"{RUN}/published")} == named  # the loser's files are gone
    assert winners == {True, False}


def test_two_publishers_at_the_same_moment_agree_on_a_real_server(output, tmp_path, files):
    folders = [files, write_files(tmp_path / "other", seed=1)]
    start, results = threading.Barrier(2), []

    def work(index):
        start.wait()
        results.append(publisher.publish_run(output, build_draft(job=f"job-{index}"), folders[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0].loaded == results[1].loaded
    assert check_invariant(output) == ["run-a"]


def test_what_other_attempts_upload_is_left_alone(output, files):
    """Their writers may still be at work, and then create the manifest on a server that checks before it writes."""
    orphan = f"{RUN}/published/0123456789abcdef/model_int8.tflite"
    output.put(orphan, b"half an attempt")
    publisher.publish_run(output, build_draft(), files)
    assert output.exists(orphan)


def test_a_server_that_lets_two_create_the_manifest_leaves_a_whole_run(tmp_path, files):
    """Between this attempt's write and its reading of it, another one's write replaces the manifest."""
    output = publisher_store(tmp_path, "racy")
    other_files = write_files(tmp_path / "other", seed=1)
    other = publisher_store(tmp_path, "other")
    publisher.publish_run(other, build_draft(job="other"), other_files)
    hooked = HookedStore(output)
    publisher.publish_run(hooked, build_draft(), files)
    first_read = max(index for index, call in enumerate(hooked.calls) if call == "put manifest.json") + 1
    for moment in range(first_read, len(hooked.calls)):
        racy = publisher_store(tmp_path, f"racy-{moment}")

        def overwrite(number, racy=racy, moment=moment):
            if number == moment:
                for each in other.list("runs"):
                    racy.put(each.key, other.get(each.key))

        published = publisher.publish_run(HookedStore(racy, before=overwrite), build_draft(), files)
        assert check_invariant(racy, is_latest_exact=False) == ["run-a"]
        if moment < len(hooked.calls) - 1:  # later than the last look nothing can be known
            assert published.loaded.manifest.job == "other"
            assert check_invariant(racy) == ["run-a"]


def test_a_manifest_is_readable_json_with_sorted_keys(file_output, files):
    publisher.publish_run(file_output, build_draft(), files)
    text = file_output.get(f"{RUN}/manifest.json").decode()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_a_truncated_upload_is_found_before_the_manifest_is_written(file_output, files):
    class Truncating(HookedStore):
        def upload_file(self, key, path, **options):
            info = super().upload_file(key, path, **options)
            if key.endswith("model_int8.tflite"):
                self._inner.put(key, b"short")
            return info

    with pytest.raises(errors.StorageUnavailableError, match="must have 500 bytes after its upload, got 5"):
        publisher.publish_run(Truncating(file_output), build_draft(), files)
    assert check_invariant(file_output) == []


def test_an_empty_folder_is_refused(file_output, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.ConfigError, match="must hold files"):
        publisher.publish_run(file_output, build_draft(), tmp_path / "empty")


def test_find_run_finishes_what_a_crash_left_behind_the_manifest(output, files):
    publisher.publish_run(output, build_draft(), files)
    output.delete([names.LATEST_KEY])
    found = publisher.find_run(output, "run-a")
    assert found.is_latest
    assert not found.is_own
    assert catalog.load_manifest(output).manifest.run_id == "run-a"
    assert publisher.find_run(output, "run-b") is None


def test_the_set_is_named_by_its_content(tmp_path):
    from imagetrain_trainer.publish import artifacts  # noqa: PLC0415

    one = artifacts.collect_files(write_files(tmp_path / "one"))
    same = artifacts.collect_files(write_files(tmp_path / "same"))
    other = artifacts.collect_files(write_files(tmp_path / "other", seed=1))
    renamed = [dataclasses.replace(each, name=f"x{each.name}") for each in one]
    assert artifacts.name_set(one) == artifacts.name_set(same)
    assert len({artifacts.name_set(each) for each in (one, other, renamed, one[1:])}) == 4
    assert publish_cases.CLASSES
