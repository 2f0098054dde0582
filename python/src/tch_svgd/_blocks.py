"""Block-normalized gradients: each layer's gradient is divided by its norm before the optimizer sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Normalization = Literal["unit", "adaptive", "clip"]

# The paper's.
_VALUES: dict[Normalization, float] = {"unit": 1.0, "adaptive": 0.02, "clip": 0.1}


class BlockNormalizer:
    """Normalizes the gradients of a model block by block, between ``backward()`` and the optimizer's step.

    A block is a layer's weight and bias together (BNG paper, Algorithm 1). Its gradient ``g`` becomes, by ``normalization``::

        "unit"        g / norm(g)                        the paper's NG
        "adaptive"    value * g * norm(w) / norm(g)      NG_adap; w are the block's weights, value is 0.02 if not given
        "clip"        g * min(1, value / norm(g))        value is 0.1 if not given

    Norms are of float64, which holds the squares of any float32. A gradient of zeros stays zero; a block whose norm is not
    finite stays as it is, for a ``GradScaler`` to see, and is counted in :attr:`skipped`. Nothing waits for the device.

    Args:
        model: whose parameters, those that it has now. Those that have no gradient at a step are left out of it.
        normalization: what a block's gradient becomes.
        value: see above; of "unit" there is none.
        blocks: ``"layer"``: the parameters of one module (of recurrent networks: of one layer and direction);
            ``"parameter"``: each for itself; or a mapping from a block's name to its parameters.

    >>> layer = nn.Linear(1, 1)
    >>> layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    >>> BlockNormalizer(layer).normalize_()
    >>> layer.weight.grad, layer.bias.grad
    (tensor([[0.6000]]), tensor([0.8000]))
    """

    def __init__(
        self,
        model: nn.Module,
        normalization: Normalization = "unit",
        value: float | None = None,
        *,
        blocks: Literal["layer", "parameter"] | Mapping[str, Iterable[nn.Parameter]] = "layer",
    ) -> None:
        if normalization not in get_args(Normalization):
            known = ", ".join(get_args(Normalization))
            raise ValueError(f"BlockNormalizer: 'normalization': expected one of {known}, got {normalization!r}")
        if normalization == "unit" and value is not None:
            raise ValueError(f"BlockNormalizer: 'value': expected none with 'unit', got {value!r}")
        self._rule = normalization
        self._value = _VALUES[normalization] if value is None else float(value)
        if not 1e-37 <= self._value <= 3.4e38:  # the gradients are float32 for most
            raise ValueError(f"BlockNormalizer: 'value': expected a finite number, at least 1e-37, got {value!r}")
        self._blocks = _find_blocks(model, blocks)
        self._norms: dict[str, Tensor] = {}
        self._skipped: dict[torch.device, Tensor] = {}

    def normalize_(self) -> None:
        """Changes the gradients in place. One call of the operator for each device."""
        self._norms = {}
        here: dict[torch.device, dict[str, list[nn.Parameter]]] = {}
        for name, parameters in self._blocks.items():
            for parameter in parameters:
                if parameter.grad is not None:
                    here.setdefault(parameter.grad.device, {}).setdefault(name, []).append(parameter)
        for device, blocks in here.items():
            norms = torch.empty(len(blocks), dtype=torch.float64, device=device)
            if device not in self._skipped:
                self._skipped[device] = torch.zeros((), dtype=torch.int64, device=device)
            parameters = [parameter for block in blocks.values() for parameter in block]
            torch.ops.bng.normalize_(
                [parameter.grad for parameter in parameters],
                [parameter.detach() for parameter in parameters],
                [len(block) for block in blocks.values()],
                norms,
                self._skipped[device],
                self._rule,
                self._value,
            )
            self._norms.update(zip(blocks, norms.unbind(), strict=True))

    @property
    def norms(self) -> dict[str, Tensor]:
        """The norms of the last call by the names of the blocks, of before: float64, ``[]``, where the gradients are."""
        return dict(self._norms)

    @property
    def skipped(self) -> int:
        """How many blocks were left as they were in all, since their norms were not finite. Waits for the device."""
        return sum(int(count) for count in self._skipped.values())


def _find_blocks(
    model: nn.Module, blocks: Literal["layer", "parameter"] | Mapping[str, Iterable[nn.Parameter]]
) -> dict[str, list[nn.Parameter]]:
    if isinstance(blocks, Mapping):
        for name, parameters in blocks.items():
            if isinstance(parameters, Tensor):
                raise TypeError(f"BlockNormalizer: block '{name}': expected a list of parameters, got one: [parameter]")
        found = {name: list(parameters) for name, parameters in blocks.items()}
        every = [parameter for block in found.values() for parameter in block]
        if len({id(parameter) for parameter in every}) < len(every):
            raise ValueError("BlockNormalizer: 'blocks': expected each parameter in one block, got one twice")
    elif blocks == "parameter":
        found = {name: [parameter] for name, parameter in model.named_parameters()}
    elif blocks == "layer":
        found = {}
        seen: set[nn.Parameter] = set()  # one of several layers belongs to the first
        for name, module in model.named_modules():
            for own, parameter in module.named_parameters(recurse=False):
                if parameter not in seen:
                    seen.add(parameter)
                    found.setdefault(name + _part(module, own), []).append(parameter)
    else:
        raise ValueError(f"BlockNormalizer: 'blocks': expected 'layer', 'parameter' or a mapping, got {blocks!r}")
    if not any(found.values()):
        raise ValueError(f"BlockNormalizer: {type(model).__name__} has no parameters; is it the model?")
    return found


def _part(module: nn.Module, parameter: str) -> str:
    """What tells one layer and direction of a recurrent network from the others, which have one module."""
    number = re.search(r"_l(\d+(?:_reverse)?)$", parameter) if isinstance(module, nn.RNNBase) else None
    return f"[{number[1]}]" if number else ""
