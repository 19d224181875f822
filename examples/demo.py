"""`make demo`: scikit-learn's digits from images on S3 to measured models, with two workers.

Leaves the images, the models and the report under .demo/digits; a repeated run uses the images again.
"""

import pathlib
import shutil

import numpy as np
import sklearn.datasets
from PIL import Image

import walkthrough
from imagetrain_trainer.data import reader
from imagetrain_trainer.storage import store

NAME = "digits"
_BRIGHTEST = 16  # of scikit-learn's digits, whose pixels count dark points of a 4 x 4 block
_PREDICTED = 3


def main() -> None:
    """Run the demo."""
    images = walkthrough.DEMO_FOLDER / NAME / "images"
    walkthrough.say(f"Writing the digits as PNG files, a folder a class: {images}")
    write_images(images)
    walkthrough.say("Starting an S3 server on this machine (moto)")
    with walkthrough.s3_server():
        walkthrough.train_and_predict(NAME, images, "3:1:1", lambda: held_out_images(images))


def write_images(folder: pathlib.Path) -> None:
    """Write the 1,797 digits to `folder`/CLASS/NUMBER.png, unless they are there."""
    if folder.exists():
        return
    digits = sklearn.datasets.load_digits()
    pixels = np.rint(digits.images * (255 / _BRIGHTEST)).astype(np.uint8)  # (1797, 8, 8)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for number, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
        path = partial / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    partial.rename(folder)


def held_out_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return three images of the packed data set's test split, each of another class."""
    packed = store.open_store(f"s3://{walkthrough.BUCKET}/datasets/{NAME}/")
    with reader.DatasetReader(packed, "test") as test:
        records = np.array([np.flatnonzero(test.labels == label)[0] for label in range(_PREDICTED)])
        return [folder / key for key in test.read(records).keys]


if __name__ == "__main__":
    main()
