"""Work that Hydra repeats while it composes a configuration, done once.

The results are the same: a test composes with and without.
"""

from functools import cache
from typing import Any

from hydra._internal import defaults_list as defaults_lists
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from omegaconf.base import Box


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

    `experiment=full` merges a hundred files.
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

    # After every file that is merged, all nodes so far are told their parents: once will do.
    merge_all = ConfigLoaderImpl._compose_config_from_defaults_list
    tell_parents = Box._re_parent

    def merge_then_tell(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
        Box._re_parent = lambda _: None  # type: ignore[assignment, method-assign]
        try:
            merged = merge_all(self, defaults, repo)
        finally:
            Box._re_parent = tell_parents  # type: ignore[method-assign]
        merged._re_parent()
        return merged

    ConfigLoaderImpl._compose_config_from_defaults_list = merge_then_tell  # type: ignore[method-assign]
