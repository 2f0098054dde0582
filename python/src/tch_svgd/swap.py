"""Swapping the layers of a model in place, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from .layers import HATTED, Conv2d, Linear, checked, layers
from .svgd import Svgd

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
    >>> [type(layer).__module__ for layer in model]
    ['torch.nn.modules.conv', 'torch.nn.modules.flatten', 'tch_svgd.layers']
    """
    svgd = checked(svgd)
    plain = {name: module for name, module in model.named_modules() if type(module) in HATTED}
    chosen = [module for name, module in plain.items() if where is None or where(name, module)]
    if not chosen:
        names = ", ".join(name or "the model itself" for name in plain)
        raise ValueError(
            f"swap_: {type(model).__name__}: nothing to swap: "
            + (
                f"'where' took none of {names}"
                if plain
                else "it has no torch.nn.Linear or torch.nn.Conv2d that is not swapped yet"
            )
        )
    for module in chosen:
        module.__class__ = HATTED[type(module)]
        assert isinstance(module, (Linear, Conv2d))
        module._begin(svgd)
    return model


def unswap_(model: Model) -> Model:
    """Makes plain layers of the hatted ones again, in place: for deployment, or after SVGD. Their second moments are dropped.

    >>> unswap_(Linear(2, 2))
    Linear(in_features=2, out_features=2, bias=True)
    """
    plain = {hatted: original for original, hatted in HATTED.items()}
    for _, module in list(layers(model)):
        if type(module) not in plain:
            raise TypeError(f"unswap_: expected tch_svgd.Linear and tch_svgd.Conv2d alone, got {type(module).__name__}")
        del module.second_moment, module.svgd
        module._non_persistent_buffers_set.discard("second_moment")
        module.__class__ = plain[type(module)]
    return model
