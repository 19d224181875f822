"""One fetches, the others wait, and nobody waits for the dead."""

import concurrent.futures

import cache_folders
import cache_processes
from imagetrain_trainer.data import cache_usage


def test_one_claims_and_the_others_wait_for_what_it_puts(tmp_path):
    cache = cache_folders.open_cache(tmp_path)
    fetched = []

    def load(_):
        found = cache.get("a")
        if found is None:
            claim = cache.claim("a")
            if claim is None:
                return cache.wait("a", 30)
            with claim:
                found = cache.get("a")  # the claim before this one may have brought it
                if found is None:
                    fetched.append("a")
                    cache.put("a", b"1")
                    found = b"1"
        return found

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(load, range(200))) == [b"1"] * 200
    assert fetched == ["a"]
    assert list((tmp_path / "v1" / "claims").iterdir()) == []


def test_a_claim_that_changes_hands_while_it_is_asked_for_has_one_holder(tmp_path, monkeypatch):
    cache = cache_folders.open_cache(tmp_path)
    first, others, lock = cache.claim("a"), [], cache_usage.try_lock

    def lock_late(descriptor):
        if not others:
            others.append(None)
            first.release()
            others.append(cache.claim("a"))
        return lock(descriptor)

    monkeypatch.setattr(cache_usage, "try_lock", lock_late)
    assert cache.claim("a") is None
    others[1].release()
    assert cache.claim("a") is not None


def test_nobody_waits_for_a_claim_of_the_dead(tmp_path):
    cache = cache_folders.open_cache(tmp_path, scope=cache_processes.SCOPES[0])
    with cache_folders.start("claim", tmp_path, cache_folders.MIB) as process:
        assert process.stdout.readline() == "True\n"
        assert cache.claim("a") is None
        assert cache.wait("a", 0.05) is None  # over time
        process.kill()
    assert cache.wait("a", 60) is None
    with cache.claim("a") as claim:
        assert claim is not None
