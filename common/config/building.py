"""Nodes of the configuration that name a class (`_target_`): checked, then constructed.

A node may name what it is for and nothing else: a dataset of `common.datasets`, a metric or a
target of `analysis`, or a class of a package that `plugins=[…]` names. That is checked before
anything of it is imported, so that no configuration runs code of its choice; then the types of its
settings.
"""

from collections.abc import Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from common.reading import brief
from common.records import StrataError

T = TypeVar("T")

# Modules by the names that configurations of earlier versions have for them.
RENAMED = {"analysis.targets.own_labels": "analysis.targets.user_labels"}


def current_target(target: str) -> str:
    """The `_target_` of a node, with the name that its module has today."""
    module, dot, name = target.rpartition(".")
    return f"{RENAMED.get(module, module)}{dot}{name}"


def construct(key: str, node: object, kind: type[T], package: str, plugins: Collection[str]) -> T:
    """The object of a node, which is of `kind`; classes come from `package` or from plugins.

    An error of its constructor reaches the user as its own.
    """
    if isinstance(node, Mapping) and "_target_" in node:
        node = {**node, "_target_": current_target(str(node["_target_"]))}
    _check(key, node, kind, (package, *plugins))
    try:
        made = instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, StrataError):
            raise error.__cause__ from None
        given = (
            {k: v for k, v in node.items() if k != "_target_"} if isinstance(node, dict) else node
        )
        raise StrataError(f"{key}: {error.__cause__ or error}; it was given {given}") from None
    if not isinstance(made, kind):
        raise StrataError(f"{key}: {type(made).__name__} is not a {_name(kind)}")
    return made


def _name(kind: type) -> str:
    homes = {
        "Dataset": "common.datasets",
        "Metric": "analysis.metrics",
        "Target": "analysis.targets",
    }
    return f"{kind.__name__} of {homes.get(kind.__name__, kind.__module__)}"


def _check(key: str, node: object, kind: type, packages: Collection[str]) -> None:
    """Check that every class of a node is allowed, that its own is a `kind`, and its settings."""
    for place, target in _targets(key, node):
        if not any(target.startswith(f"{package}.") for package in packages):
            raise StrataError(
                f"{place}._target_={target}: not from {' or '.join(packages)}. For a class of "
                f"your own name its package: plugins=[{target.partition('.')[0]}]"
            )
        made = _object(place, target)
        home = getattr(made, "__module__", "")
        inside = any(f"{home}.".startswith(f"{package}.") for package in packages)
        outer = place == key
        if not isinstance(made, type) or not inside or (outer and not issubclass(made, kind)):
            raise StrataError(f"{place}._target_={target}: it is not a {_name(kind)}")
        if outer and isinstance(node, Mapping):
            _check_types(key, node, made)


def _targets(key: str, node: object) -> Iterator[tuple[str, str]]:
    """(key, class) of a node and of the nodes in it."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, str(node["_target_"])
        for name, value in node.items():
            yield from _targets(f"{key}.{name}", value)
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _targets(f"{key}[{number}]", value)


def _object(place: str, target: str) -> object:
    try:
        return get_object(target)
    except Exception as error:  # whatever importing a module of that name provokes
        raise StrataError(
            f"{place}._target_={target}: cannot be found ({brief(error)}): misspelt?"
        ) from error


def _check_types(key: str, node: Mapping[Any, object], made: type) -> None:
    """Check settings against the plain types that a class declares.

    Null may stand for what another part of the configuration fills in: the caller's matter.
    """
    for name, hint in get_type_hints(made).items():
        if node.get(name) is not None and not _fits(node[name], hint):
            raise StrataError(f"{key}.{name}={node[name]}: use {_described(hint)}")


def _fits(value: object, hint: object) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is list and get_args(hint) == (str,):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not (hint in (str, bool, NoneType) and not isinstance(value, hint))


def _described(hint: object) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_described(one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    names |= {NoneType: "null", list[str]: "a list of texts ([a, b]; numbers in quotes: ['0036'])"}
    return names.get(hint, str(hint))  # type: ignore[call-overload]
