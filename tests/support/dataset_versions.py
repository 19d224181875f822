"""Versions of a data set that hold no records: enough for what is about names and digests alone."""

from imagetrain_trainer.data import dataset
from imagetrain_trainer.storage import store


def make_version(above: store.ObjectStore, name: str, *, title: str = "set") -> str:
    """Write the `dataset.json` of a data set without records below a prefix; return its digest."""
    image = dataset.ImageFacts(
        encoding="raw", channels=1, height=2, width=2, min_height=2, max_height=2, min_width=2, max_width=2
    )
    sealed, document = dataset.seal(
        dataset.Dataset(
            name=title,
            class_names=("a",),
            image=image,
            splits=dict.fromkeys(dataset.SPLITS, dataset.Split(records=0, class_counts=(0,), shards=())),
            mean=(0.0,),
            std=(1.0,),
            split_seed=0,
            split_ratios={},
        )
    )
    above.put(f"{name}/{dataset.KEY}", document)
    return sealed.digest
