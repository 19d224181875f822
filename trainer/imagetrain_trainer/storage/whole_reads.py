"""What is checked is read again before it counts as damaged: a byte may have changed on the way."""

import logging
from collections.abc import Callable
from typing import TypeVar

from imagetrain_trainer import errors

logger = logging.getLogger(__name__)

MOST_READS = 4

T = TypeVar("T")


def read_whole(read: Callable[[], T]) -> T:
    """Return what `read` returns, called up to MOST_READS times until it finds no damage.

    Raises:
        DataCorruptError: it found damage each time.
    """
    for _ in range(MOST_READS - 1):
        try:
            return read()
        except errors.DataCorruptError as error:
            logger.warning("Read again: %s", error)
    return read()
