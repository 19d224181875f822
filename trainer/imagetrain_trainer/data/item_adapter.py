"""An `ItemSource` as a `Source`, until all sources are listed as streams."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import npz_source, sources, tree_source


class ItemAdapter(sources.Source):
    """Lists and reads another source."""

    def __init__(self, inner: sources.ItemSource) -> None:
        self._inner = inner
        self.name = inner.name
        self.class_names = inner.class_names
        self.ignored = inner.ignored
        self.ignored_count = len(inner.ignored)

    def entries(self) -> Iterator[sources.Entry]:
        """Yield every item."""
        for item in self._inner.items:
            class_name = self._inner.class_names[item.label]
            yield sources.Entry(item.key, class_name, item.given_split, None, f"{item.key}\0{item.position}")

    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Read one item."""
        key, _, position = locator.partition("\0")
        inner = self._inner
        if isinstance(inner, npz_source.NpzSource):
            pixels: npt.NDArray[np.uint8] = inner._images[key.partition("[")[0]][int(position)]  # noqa: SLF001
            return pixels
        assert isinstance(inner, tree_source.TreeSource)
        return inner.read_payload(sources.Item(key, 0, None, int(position)), is_kept=True)

    def describe(self, locator: str) -> str:
        """Return the path."""
        inner = self._inner
        return repr(str(inner._root / locator.partition("\0")[0])) if isinstance(inner, tree_source.TreeSource) else ""  # noqa: SLF001
