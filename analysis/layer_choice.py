"""Which layers each experiment scores."""

import logging

from analysis.forward.consumers import step_of
from analysis.targets.layers import AnotherLayer
from common.config import Config
from common.encoder.architecture import Layer
from common.records import StrataError

log = logging.getLogger(__name__)


def choose_layers(config: Config, layers: tuple[Layer, ...]) -> dict[str, list[str]]:
    """Names of the layers that each experiment scores; checks target layers on the way."""
    by_name = {layer.name: layer for layer in layers}
    wanted = config.layers.choose(by_name)
    chosen = {}
    for name, analysis in config.experiments.items():
        own = [layer for layer in wanted if by_name[layer].part in analysis.parts]
        if isinstance(analysis.target, AnotherLayer):
            target = analysis.target.layer
            if target not in by_name:
                raise StrataError(
                    f"experiments.{name}.target.layer={target}: this model has {', '.join(by_name)}"
                )
            check_same_grid(name, [by_name[layer] for layer in own], by_name[target])
        chosen[name] = own
    if not any(chosen.values()):
        raise StrataError(
            f"layers={config.layers.select} leaves nothing to score: {', '.join(chosen)} cover "
            "other parts of the model (experiments.NAME.parts)"
        )
    for name in [name for name, own in chosen.items() if not own]:
        log.warning("%s scores none of the chosen layers", name)
    return chosen


def check_same_grid(name: str, layers: list[Layer], target: Layer) -> None:
    """Frames of two layers can be paired only where both have one frame for each other's."""
    for layer in layers:
        if step_of(layer) != step_of(target):
            raise StrataError(
                f"{name}: {layer.name} has a frame every {10 * step_of(layer)} ms and its target "
                f"{target.name} every {10 * step_of(target)} ms: choose layers and target of one "
                "frame rate"
            )
