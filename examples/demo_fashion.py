"""`make demo-fashion`: Fashion-MNIST from its idx files to measured models on S3, with two workers.

Leaves the arrays, three test images, the models and the report under .demo/fashion.
"""

import gzip
import pathlib
import sys

import numpy as np
import numpy.typing as npt
from PIL import Image

import walkthrough

NAME = "fashion"
# Order of the labels, from the data set's README (Xiao, Rasul, Vollgraf: arXiv 1708.07747).
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SHOWN = (9, 1, 8)  # classes of the images that are predicted
_HEADER_BYTES = {3: 16, 1: 8}  # idx: magic number and one 32-bit size a dimension


def main() -> None:
    """Run the demo on the folder with the four idx files."""
    if len(sys.argv) != 2:
        sys.exit("usage: demo_fashion.py FOLDER (of train-images-idx3-ubyte.gz and so on; make demo-fashion knows it)")
    folder = walkthrough.DEMO_FOLDER / NAME
    arrays = read_arrays(pathlib.Path(sys.argv[1]))
    folder.mkdir(parents=True, exist_ok=True)
    packed = folder / f"{NAME}.npz"
    walkthrough.say(f"Writing 70,000 images to {packed}")
    np.savez(packed, allow_pickle=False, classes=np.array(CLASSES), **arrays)
    held_out = write_held_out(folder, arrays)
    walkthrough.say("Starting an S3 server on this machine (moto)")
    with walkthrough.s3_server():
        walkthrough.train_and_predict(NAME, packed, "9:1:1", lambda: held_out)


def read_arrays(folder: pathlib.Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Return x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28) and y_test (10000,), uint8."""
    return {
        "x_train": read_idx(folder / "train-images-idx3-ubyte.gz", 3).reshape(-1, 28, 28),
        "y_train": read_idx(folder / "train-labels-idx1-ubyte.gz", 1),
        "x_test": read_idx(folder / "t10k-images-idx3-ubyte.gz", 3).reshape(-1, 28, 28),
        "y_test": read_idx(folder / "t10k-labels-idx1-ubyte.gz", 1),
    }


def read_idx(path: pathlib.Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Return the values of a gzipped idx file, flat."""
    with gzip.open(path) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=_HEADER_BYTES[dimensions])


def write_held_out(folder: pathlib.Path, arrays: dict[str, npt.NDArray[np.uint8]]) -> list[pathlib.Path]:
    """Write the first test image of three classes as PNG files."""
    paths = []
    for label in _SHOWN:
        path = folder / f"{CLASSES[label].lower().replace(' ', '-')}.png"
        Image.fromarray(arrays["x_test"][np.flatnonzero(arrays["y_test"] == label)[0]]).save(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    main()
