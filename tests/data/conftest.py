"""Small image trees and packed data sets for the tests of the data plane."""

import io

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer.data import pack, pack_folder
from imagetrain_trainer.storage import store


def encode(pixels, kind="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _own_work_root(tmp_path, monkeypatch):
    """Keep what a failed pack leaves out of the user's cache."""
    monkeypatch.setattr(pack_folder, "default_root", lambda _: tmp_path / "pack-work")


@pytest.fixture
def tree(tmp_path):
    """Two classes of ten 8 x 6 RGB images: PNG in `cats`, JPEG in `dogs`."""
    random = np.random.default_rng(1)
    root = tmp_path / "pets"
    for name, kind in (("cats", "png"), ("dogs", "jpeg")):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (8, 6, 3), np.uint8)
            (root / name / f"{number:02}.{kind}").write_bytes(encode(pixels, kind))
    return root


@pytest.fixture
def arrays():
    """Three classes of 30 gray 5 x 4 images each, and their labels."""
    random = np.random.default_rng(2)
    return {"x": random.integers(0, 256, (90, 5, 4), np.uint8), "y": np.arange(90) % 3}


@pytest.fixture
def npz(tmp_path, arrays):
    path = tmp_path / "numbers.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def packed(tmp_path, npz):
    """The arrays packed into shards of a few records each."""
    pack.pack(npz, str(tmp_path / "packed"), pack.PackOptions(shard_size_bytes=2048))
    return store.open_store(str(tmp_path / "packed"))
