"""The attacks. Each is a function of a target that returns what succeeded, or an empty text where nothing did."""

from collections.abc import Callable
from dataclasses import dataclass

from checks.attacks.target import Target

Attack = Callable[[Target], str]


@dataclass(frozen=True)
class Entry:
    """One attack.

    Attributes:
        group: What it belongs to.
        name: What it tries, in words.
        play: Plays it.
        needs_own: Whether it needs the service behind the proxy, or its process, to be ours.
    """

    group: str
    name: str
    play: Attack
    needs_own: bool

    def __str__(self) -> str:
        """The id of the test."""
        return f"{self.group}-{self.name}".replace(" ", "_")


ATTACKS: list[Entry] = []


def attack(group: str, *, own: bool = False) -> Callable[[Attack], Attack]:
    """Register a function as an attack; its docstring's first line is the name."""

    def register(play: Attack) -> Attack:
        assert play.__doc__
        ATTACKS.append(Entry(group, play.__doc__.partition("\n")[0].rstrip("."), play, own))
        return play

    return register
