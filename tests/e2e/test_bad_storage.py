"""Training from storage that is slow, fails and lies ends with the very model of storage that does not."""

import json

import numpy as np
import pytest

import fault_proxy

IMAGES, SIDE = 1800, 128  # 88 MB, of which 70 MiB to train: more than a worker keeps in memory
FAULTS = {
    "first_byte_delay_seconds": 0.02,
    "stall_fraction": 0.1,
    "stall_seconds": 1.0,
    "slow_down_fraction": 0.1,
    "reset_fraction": 0.1,
    "truncate_fraction": 0.1,
    "flip_fraction": 0.1,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of noise, one brighter than the other."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("photos") / "photos.npz"
    labels = np.arange(IMAGES) % 2
    pixels = random.integers(0, 128, (IMAGES, SIDE, SIDE, 3), np.uint8) + (100 * labels[:, None, None, None])
    np.savez(path, x=pixels.astype(np.uint8), y=labels)
    return path


def figures(finished):
    """Return what only equal weights give: the validation loss of each epoch."""
    return [event["validationLoss"] for event in finished.events if event["event"] == "epoch"]


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
@pytest.mark.timeout(300)  # three runs
def test_a_bad_store_costs_time_and_nothing_else(imagetrain, write_job, photos, s3_server, s3_bucket, tmp_path):
    data = f"s3://{s3_bucket}/photos/v1/"
    training = {"epochs": 2, "globalBatchSize": 64, "augmentation": {"flip": "horizontal"}}
    model = {"architecture": "small_cnn", "inputShape": [16, 16, 3]}

    def run(name, server, **settings):
        job = write_job(
            data,
            f"file://{tmp_path}/{name}/",
            workers=1,
            model=model,
            training=training,
            data={"uri": data, **settings},
            output={"uri": f"file://{tmp_path}/{name}/", "formats": ["saved_model"]},
        )
        finished = imagetrain("run", job, "--json", **server.environment())
        assert finished.status == 0, finished.errors + imagetrain.logs()[-3000:]
        return finished

    options = ("--split", "8:1:1", "--shard-size", "16Mi")
    packed = imagetrain("data", "pack", photos, data, *options, **s3_server.environment())
    assert packed.status == 0, packed.errors
    clean = figures(run("clean", s3_server))
    assert len(clean) == 2
    with fault_proxy.running(s3_server) as proxy:
        proxy.set(**FAULTS)
        assert figures(run("faulty", proxy.server)) == clean
        counts = proxy.counts()
        faults = ("stalls", "slow_downs", "resets", "truncations", "flips")
        assert sum(counts[fault] for fault in faults) >= 5, json.dumps(counts)
        before = counts["body_bytes"]
        cached = run("cached", proxy.server, cache={"size": "1Gi", "path": f"{tmp_path}/cache"})
        assert figures(cached) == clean
        # both epochs and the evaluations, for the price of one reading
        assert proxy.counts()["body_bytes"] - before < 1.5 * IMAGES * SIDE * SIDE * 3
