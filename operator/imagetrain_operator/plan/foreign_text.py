"""Text of others - nodes, registries, containers - made fit for a status: one line, no control characters, cut."""

import re

_SPACES = re.compile(r"\s+")


def shorten(text: str, max_characters: int, *, keeps_end: bool = False) -> str:
    """Return one printable line of at most `max_characters`.

    Args:
        text: anything.
        max_characters: at least 1.
        keeps_end: whether the end says more than the start, as in a log.
    """
    shown = "".join(character if character.isprintable() else " " for character in _SPACES.sub(" ", text))
    shown = _SPACES.sub(" ", shown).strip()
    if len(shown) <= max_characters:
        return shown
    return "…" + shown[1 - max_characters :] if keeps_end and max_characters > 1 else shown[: max_characters - 1] + "…"


def as_sentence(text: str) -> str:
    """Return a text with a full stop, unless it has an end already or is empty."""
    return text if not text or text[-1] in ".!?…" else f"{text}."
