"""The second moments of a model: optimizer state, kept beside its state_dict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._layers import Conv2d, Linear, layers

#: What the crate's ``Svgd::load`` wants of a file: ``safetensors.torch.save_file(state_dict(model), path, METADATA)``.
METADATA = {"format": "tch-svgd second moments 1"}


def state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The second moments of a model by the names of its layers: empty where there is none yet.

    The tensors are those of the layers, not copies, as they are with ``torch.nn.Module.state_dict``. The names and the
    format are also those of the crate's ``Svgd::save``.

    >>> state_dict(nn.Sequential(Linear(2, 3)))
    {'0': tensor([0., 0., 0.])}
    """
    found = _layers(model)
    return {
        name: torch.empty(0) if layer.second_moment is None else layer.second_moment.detach() for name, layer in found.items()
    }


def load_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Takes over the second moments that :func:`state_dict` gave, as copies. After an error nothing has changed.

    Raises:
        ValueError: the layers are those of another model, or a second moment is not one of this layer's.
    """
    found = _layers(model)
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict: expected what state_dict gave, got {type(state).__name__}")
    lacking, foreign = sorted(found.keys() - state.keys()), sorted(state.keys() - found.keys())
    if lacking or foreign:
        raise ValueError(
            f"load_state_dict: expected the layers of this model, got others: {lacking} are lacking, {foreign} are too many"
        )
    for name, layer in found.items():
        expected = _objection(layer, state[name])
        if expected is not None:
            raise ValueError(f"load_state_dict: layer '{name}': expected {expected}")
    with torch.no_grad():
        for name, layer in found.items():
            moment, loaded = layer.second_moment, state[name]
            if loaded.numel() == 0:
                _forget(layer)
            elif moment is not None and moment.shape == loaded.shape:
                moment.copy_(loaded)  # a compiled step or a CUDA graph goes on with this memory
            else:
                layer._begin_moment(list(loaded.shape))
                layer.second_moment.copy_(loaded)  # type: ignore[union-attr]


def reset_(model: nn.Module) -> None:
    """Forgets the second moments. Those by element begin anew, of the size that the next forward pass needs."""
    for layer in _layers(model).values():
        _forget(layer)


def _forget(layer: Linear | Conv2d) -> None:
    size = layer._moment_size()
    if layer.second_moment is not None and list(layer.second_moment.shape) == size:
        with torch.no_grad():
            layer.second_moment.zero_()
    elif size is not None:
        layer._begin_moment(size)
    else:
        layer.second_moment = None


def _layers(model: nn.Module) -> dict[str, Linear | Conv2d]:
    found = dict(layers(model))
    if not found:
        raise ValueError(f"{type(model).__name__} has no tch_svgd.Linear or tch_svgd.Conv2d: swap_ it first")
    return found


def _objection(layer: Linear | Conv2d, moment: Tensor) -> str | None:
    """What a second moment of this layer would be, if this is none."""
    if not isinstance(moment, Tensor):
        return f"a tensor, got {type(moment).__name__}"
    if moment.numel() == 0:
        return None
    outputs, shape = layer.weight.shape[0], list(moment.shape)
    begun = layer.second_moment
    if begun is not None and list(begun.shape) == shape:
        pass  # whatever the settings are by now
    elif isinstance(layer, Conv2d) and layer.svgd.granularity == "element":
        if len(shape) != 3 or shape[0] != outputs:
            return f"shape [{outputs}, height, width], got {shape}; the model or its granularity is another one"
    elif shape != [outputs]:
        return f"shape [{outputs}], got {shape}; the model or its granularity is another one"
    if moment.dtype not in (torch.float32, torch.float64):
        return f"float32 or float64, got {moment.dtype}"
    # Of the kind that it gets here. Also false for NaN.
    converted = moment.to(torch.float64 if layer.weight.dtype == torch.float64 else torch.float32)
    if not bool(((converted >= 0) & torch.isfinite(converted)).all()):
        return "finite values >= 0 (a mean of squares), got others"
    return None
