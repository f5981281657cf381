"""Which layers attend to a sliding window only."""

from freehold.convert.config import Config

SLIDING, FULL = "sliding_attention", "full_attention"
_KINDS = {SLIDING: True, FULL: False}


def sliding_layers(config: Config, layers: int, step: int) -> list[bool]:
    """For each layer whether its window slides: `layer_types`, else all but every `step`-th. Raises BadModelFile."""
    types = config.values.get("layer_types")
    if types is None:
        return [(layer + 1) % step != 0 for layer in range(layers)]
    if (
        not isinstance(types, list)
        or len(types) != layers
        or not all(isinstance(kind, str) and kind in _KINDS for kind in types)
    ):
        raise config.bad(f"layer_types does not name one of {', '.join(_KINDS)} for each layer")
    return [_KINDS[kind] for kind in types]
