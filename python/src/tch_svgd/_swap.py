"""Swapping the layers of a model in place, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from ._layers import HATTED, Conv2d, Linear, checked, layers
from ._svgd import Svgd

Model = TypeVar("Model", bound=nn.Module)


def swap_(model: Model, svgd: Svgd | None = None, *, where: Callable[[str, nn.Module], bool] | None = None) -> Model:
    """Makes :class:`Linear` and :class:`Conv2d` of the ``torch.nn.Linear`` and ``torch.nn.Conv2d`` of a model, in place.

    The modules stay the same objects, with their parameters, hooks and buffers: an optimizer that has the parameters goes on,
    and so does whatever else refers to them. They share ``svgd``. Not swapped is what is derived from the two: ``out_proj`` of
    ``torch.nn.MultiheadAttention``, whose ``forward`` never runs, lazy layers, and layers that have parametrizations already
    (register these after the swap).

    Args:
        model: any module, which may itself be one of the two.
        svgd: the settings; ``Svgd()`` if there are none.
        where: of a layer's name and the layer: whether it is to be swapped. The first layer and the last often are not.

    Returns:
        The same model.

    Raises:
        ValueError: there is nothing to swap.

    >>> model = swap_(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), where=lambda name, _: name != "0")
    >>> [isinstance(layer, (Linear, Conv2d)) for layer in model]
    [False, False, True]
    """
    svgd = checked(svgd)
    if not isinstance(model, nn.Module):
        raise TypeError(f"swap_: argument 'model': expected a torch.nn.Module, got {type(model).__name__}")
    plain = {name: module for name, module in model.named_modules() if type(module) in HATTED}
    chosen = {name: module for name, module in plain.items() if where is None or where(name, module)}
    if not chosen:
        raise ValueError(f"swap_: {type(model).__name__}: nothing to swap: {_reason(model, plain)}")
    for name, module in chosen.items():
        taken = [attribute for attribute in ("svgd", "second_moment") if hasattr(module, attribute)]
        if taken:
            raise ValueError(f"swap_: layer '{name}': has an attribute '{taken[0]}' of its own: rename it")
    for module in chosen.values():
        module.__class__ = HATTED[type(module)]
        assert isinstance(module, (Linear, Conv2d))
        module._begin(svgd)
    return model


def _reason(model: nn.Module, plain: dict[str, nn.Module]) -> str:
    if plain:
        return f"'where' took none of {', '.join(name or 'the model itself' for name in plain)}"
    derived = [
        f"'{name}' ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, tuple(HATTED)) and not isinstance(module, tuple(HATTED.values()))
    ]
    reason = "it has no torch.nn.Linear or torch.nn.Conv2d that is not swapped yet"
    return f"{reason}; what is derived from them is not swapped: {', '.join(derived)}" if derived else reason


def unswap_(model: Model) -> Model:
    """Makes plain layers of the hatted ones again, in place: for deployment, or after SVGD. Their second moments are dropped.

    >>> unswap_(Linear(2, 2))
    Linear(in_features=2, out_features=2, bias=True)
    """
    plain = {hatted: original for original, hatted in HATTED.items()}
    found = dict(layers(model))
    for name, module in found.items():
        if type(module) not in plain:
            raise TypeError(
                f"unswap_: layer '{name}': expected a tch_svgd.Linear or tch_svgd.Conv2d, got {type(module).__name__}, which "
                "is derived from them: remove its parametrizations first, or unswap the others alone"
            )
    for module in found.values():
        del module.second_moment, module.svgd
        module._non_persistent_buffers_set.discard("second_moment")
        module.__class__ = plain[type(module)]
    return model
