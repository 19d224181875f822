"""Class names gathered while a source is listed, and their order once all are known. Pure."""

from imagetrain_trainer import errors

MAX_CLASSES = 100_000
_MAX_NAME_LENGTH = 200


class ClassLabels:
    """The names seen so far, and the number that the source gives each, if it gives any."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._by_number: dict[int, str] = {}
        self._texts: dict[int, str] = {}

    def add(self, name: str) -> str:
        """Note the class of a record that has a name for it, and return it.

        Raises:
            errors.ConfigError: the name cannot be one, or there are too many; the message is a rule, for the caller to
                prefix with the record's place.
        """
        if name not in self._names:
            self._check(name)
            self._names.add(name)
        return name

    def add_number(self, number: int, text: str | None) -> str:
        """Note the class of a record that has a number for it, and perhaps a text; return the class's name.

        Two numbers may share a text, as two cranes do in ImageNet; the second's name then has its number too.

        Raises:
            errors.ConfigError: as of `add`, or the number is negative or had another text before.
        """
        known = self._by_number.get(number)
        if known is None:
            if number < 0:
                raise errors.ConfigError(f"must have a label of 0 or more, got {number}")
            name = text or str(number)
            known = self.add(f"{name} ({number})" if name in self._names else name)
            self._by_number[number] = known
            self._texts[number] = text or ""
        elif text and text != self._texts[number]:
            raise errors.ConfigError(
                f"must have one text for label {number}, got {self._texts[number][:80]!r} and {text[:80]!r}"
            )
        return known

    def ordered(self) -> tuple[str, ...]:
        """Return the names in label order: by their numbers, as numbers when all are, or else by code points."""
        if len(self._by_number) == len(self._names):
            return tuple(self._by_number[number] for number in sorted(self._by_number))
        if all(name.isascii() and name.isdigit() for name in self._names):
            return tuple(sorted(self._names, key=lambda name: (int(name), name)))
        return tuple(sorted(self._names))

    def _check(self, name: str) -> None:
        if not name or not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
            raise errors.ConfigError(
                f"must have a printable class of 1 to {_MAX_NAME_LENGTH} characters, got {name[:80]!r}"
            )
        if len(self._names) >= MAX_CLASSES:
            raise errors.ConfigError(
                f"must have one of at most {MAX_CLASSES} classes, got one more, {name[:80]!r}: is it the right column "
                "or feature?"
            )
