"""Work that Hydra repeats while it composes a configuration, done once.

The results are the same: a test composes with and without.
"""

from collections.abc import Callable
from copy import copy, deepcopy
from functools import cache, partial
from typing import Any

import omegaconf
import yaml
from hydra._internal import defaults_list as defaults_lists
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from omegaconf.base import Box, Metadata
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver


def compose_once() -> None:
    """Have Hydra compose the configuration of a run once, not twice.

    The other time is for `hydra.mode` alone, which decides between one run and several. No file of
    `conf/` sets it, so that only a command line that names it is composed for it.
    """
    composed_mode = Hydra.get_mode

    def mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        named = any("hydra.mode" in override for override in overrides)
        return composed_mode(hydra, config_name, overrides) if named else None

    Hydra.get_mode = mode  # type: ignore[assignment, method-assign]


@cache
def compose_in_linear_time() -> None:
    """Have the time to compose grow with the number of files, not with its square.

    `experiment=full` merges a hundred files, whose thousands of nodes are copied several times.
    """
    # Hydra copies its whole repository for each list of options, 130 times for --help.
    # The store need not be copied with it: what is loaded from the store is a copy already.
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]

    # All choices so far are made a configuration for every file, whether or not it names one.
    choices_so_far = defaults_lists._create_interpolation_map

    def choices_if_named(overrides: Any, defaults_list: list[Any], self_added: bool) -> Any:
        if any(default.is_interpolation() for default in defaults_list):
            return choices_so_far(overrides, defaults_list, self_added)
        return None

    defaults_lists._create_interpolation_map = choices_if_named

    # After every merged file Hydra sets the parents of all nodes so far: once is enough.
    merge_all = ConfigLoaderImpl._compose_config_from_defaults_list
    set_parents = Box._re_parent

    def merge_then_set_parents(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
        Box._re_parent = lambda _: None  # type: ignore[assignment, method-assign]
        try:
            merged = merge_all(self, defaults, repo)
        finally:
            Box._re_parent = set_parents  # type: ignore[method-assign]
        merged._re_parent()
        return merged

    ConfigLoaderImpl._compose_config_from_defaults_list = merge_then_set_parents  # type: ignore[method-assign]

    # A node is copied with all that is known of it; only two things there change in place.
    Metadata.__deepcopy__ = copy_of_metadata  # type: ignore[attr-defined]

    # For every file a class of its own is made that reads it, in Python.
    omegaconf._utils.get_yaml_loader = cache(partial(in_c, omegaconf._utils.get_yaml_loader))


def copy_of_metadata(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """What `deepcopy` makes of what OmegaConf knows of a node, in a fraction of the time."""
    copied = object.__new__(type(metadata))
    vars(copied).update(vars(metadata))
    copied.flags = copy(metadata.flags)
    known = metadata.resolver_cache
    copied.resolver_cache = deepcopy(known, memo) if known else copy(known)
    return copied


def in_c(loader_of_omegaconf: Callable[[], type[yaml.SafeLoader]]) -> type[yaml.SafeLoader]:
    """OmegaConf's loader of yaml, its parser that of libyaml where PyYAML was built with it."""
    loader = loader_of_omegaconf()
    if not yaml.__with_libyaml__:
        return loader

    class Loader(yaml.cyaml.CParser, loader):  # type: ignore[misc, valid-type]
        def __init__(self, stream: Any) -> None:
            yaml.cyaml.CParser.__init__(self, stream)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    return Loader
