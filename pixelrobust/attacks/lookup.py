"""Which attacks of foolbox there are, and building them."""

import difflib
import importlib
import inspect
from dataclasses import dataclass
from typing import Any

from pixelrobust.errors import InputError, first_line
from pixelrobust.packages import how_to_install

FOOLBOX_ERRORS = (TypeError, ValueError, AssertionError, NotImplementedError)
"""What foolbox raises where an attack's arguments or its kind do not suit.

torch's own errors, such as too little memory, are RuntimeErrors and pass as they are.
"""

# Arguments of foolbox's attacks that name a folder to write into.
_WRITING = ("tensorboard",)


@dataclass(frozen=True)
class Attack:
    """An attack of foolbox: a class and what to make it with.

    Attributes:
        name: of a class of foolbox.attacks; nothing else is looked up.
        arguments: keyword arguments of that class.

    Raises:
        InputError: there is no such attack, or it does not take these arguments.
    """

    name: str
    arguments: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        self.build()

    @property
    def minimizes(self) -> bool:
        """Whether it looks for the smallest change itself, rather than changing by an epsilon."""
        return issubclass(find_attack(self.name), foolbox_module("attacks.base").MinimizationAttack)

    @property
    def is_straight(self) -> bool:
        """Whether epsilon only says how far to go, in a direction that does not depend on it."""
        fgsm = foolbox_module("attacks").LinfFastGradientAttack
        return find_attack(self.name) is fgsm and not self.build().random_start

    def build(self) -> Any:
        """The foolbox attack."""
        kind = find_attack(self.name)
        for name, value in self.arguments:
            if name in _WRITING and value is not False:
                raise InputError(
                    f"attack.arguments.{name} would write files elsewhere; leave it out."
                )
        try:
            return kind(**dict(self.arguments))
        except FOOLBOX_ERRORS as error:
            known = ", ".join(inspect.signature(kind).parameters) or "none"
            raise InputError(
                f"attack.arguments do not suit {self.name} ({first_line(error)}); "
                f"it takes: {known}."
            ) from error


def find_attack(name: str) -> Any:
    """Return the class of an attack; nothing but foolbox's own attacks is ever looked up.

    Args:
        name: of the class, such as "FGSM".

    Raises:
        InputError: there is no such attack that takes an epsilon or minimises it, or no foolbox.
    """
    base = foolbox_module("attacks.base")
    kinds = (base.MinimizationAttack, base.FixedEpsilonAttack)
    known = {
        own: value
        for own, value in vars(foolbox_module("attacks")).items()
        if inspect.isclass(value) and issubclass(value, kinds)
    }
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        raise InputError(
            f"attack.name={name!r} is not an attack that can be used; give one of foolbox's "
            f"that take an epsilon or minimise it, such as {(near or ['FGSM'])[0]}."
        )
    return known[name]


def foolbox_module(module: str) -> Any:
    """A module of foolbox, imported when needed: it is optional, and slow to import.

    Raises:
        InputError: foolbox is not installed.
    """
    try:
        return importlib.import_module(f"foolbox.{module}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"attacks need the package foolbox, which is not installed; {how_to_install('bundled')}."
        ) from error
