"""Places in the README that a command fills with what it has measured, between two comments."""

from dataclasses import dataclass


class NoPlaceError(Exception):
    """The text has no such place."""


@dataclass(frozen=True)
class Place:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``."""

    name: str

    @property
    def begin(self) -> str:
        """Return the comment before it."""
        return f"<!-- {self.name} -->"

    @property
    def end(self) -> str:
        """Return the comment behind it."""
        return f"<!-- /{self.name} -->"

    def content(self, text: str) -> str:
        """Return what stands there.

        Raises:
            NoPlaceError: There is no such place.
        """
        return self._parts(text)[1]

    def filled(self, text: str, content: str) -> str:
        """Return the text with something else there.

        Raises:
            NoPlaceError: There is no such place.
        """
        before, _, after = self._parts(text)
        return f"{before}{self.begin}\n{content}\n{self.end}{after}"

    def _parts(self, text: str) -> tuple[str, str, str]:
        before, begin, rest = text.partition(self.begin)
        content, end, after = rest.partition(self.end)
        if not (begin and end):
            raise NoPlaceError(f"There is no place for the table: the lines {self.begin} and {self.end}.")
        return before, content, after
