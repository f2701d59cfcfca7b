"""Resuming a training from its last checkpoint, with the same settings."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.records import StrataError
from common.writing import write_text
from finetune.checkpoints import steps_done

SETTINGS = "checkpoints/settings.json"
HELD = ("model", "dataset", "seed", "precision")  # beside those of the training itself
FREE = ("checkpoint_minutes", "keep_features", "lm")  # of these: they change no weight


def check_settings(folder: Path, raw: Mapping[str, Any], group: str) -> None:
    """Record the settings of a training in `folder`; an error if it began with others.

    `group`: the key of the configuration that holds the training's own settings.
    """
    held = {key: raw[key] for key in HELD}
    held[group] = {key: value for key, value in raw[group].items() if key not in FREE}
    settings = json.loads(json.dumps(dict(_flat(held)), default=str))
    noted = folder / SETTINGS
    noted.parent.mkdir(parents=True, exist_ok=True)
    if noted.is_file() and (done := steps_done(folder)):
        _compare(_read(noted), settings, folder, done)
    write_text(noted, json.dumps(settings, indent=1))


def _read(noted: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(noted.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StrataError(
            f"{noted}: damaged ({error}), so that it is not known what the training that began "
            "here was trained with. If its settings were the present ones, delete this file; else "
            f"delete {noted.parent} to begin anew"
        ) from error


def _compare(noted: Mapping[str, Any], asked: Mapping[str, Any], folder: Path, done: int) -> None:
    keys = [key for key in {**noted, **asked} if noted.get(key) != asked.get(key)]
    if keys:
        changed = ", ".join(f"{key}={asked.get(key)} (was {noted.get(key)})" for key in keys)
        raise StrataError(
            f"hydra.run.dir={folder}: a training began here and got to step {done}, with other "
            f"settings: {changed}. Use those to resume it, or another folder, or delete "
            f"{folder / 'checkpoints'} to begin anew"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value under its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
