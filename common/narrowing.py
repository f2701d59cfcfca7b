"""Values that the configuration types as Any, narrowed to the class that the code relies on."""

from typing import TypeVar

T = TypeVar("T")


def narrowed(value: object, kind: type[T]) -> T:
    """The value, which must be of a class; raises TypeError, a mistake in the code, otherwise."""
    if not isinstance(value, kind):
        raise TypeError(f"{value} is no {kind.__name__}")
    return value
