"""Linear and Conv2d whose weights get virtual gradients."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from ._svgd import Svgd

# Two threads in a layer's first pass begin one second moment.
_BEGINNING = threading.Lock()

_NOT_BEGUN = "the second moment has no size yet: call the model once before it is compiled or exported"


def checked(svgd: Svgd | None) -> Svgd:
    """These settings, or those of Svgd()."""
    if svgd is None:
        return Svgd()
    if not isinstance(svgd, Svgd):
        raise TypeError(f"argument 'svgd': expected a tch_svgd.Svgd, got {type(svgd).__name__}")
    return svgd


class _Hatted(nn.Module):
    """What the layers have in common: their settings and their second moment, which is no part of the model's state_dict."""

    svgd: Svgd
    second_moment: Tensor | None
    weight: Tensor

    def _begin(self, svgd: Svgd | None) -> None:
        """Makes a hatted layer of one that has its weights."""
        self.svgd = checked(svgd)
        # A buffer, so that it is where the layer is; not a persistent one, so that checkpoints are those of the plain model.
        self.register_buffer("second_moment", None, persistent=False)
        size = self._moment_size()
        if size is not None:
            self._begin_moment(size)

    def _trains(self) -> bool:
        """Whether a virtual gradient can come of a forward pass now."""
        if not (self.svgd.enabled and torch.is_grad_enabled()):
            return False
        if not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(self.weight):
            raise RuntimeError(
                f"{type(self).__name__}: virtual gradients do not go with function transforms of the weight (torch.func.grad, "
                "vmap over models); plain ones do: svgd.enabled = False, or torch.no_grad()"
            )
        return self.weight.requires_grad

    def _moment_size(self) -> list[int] | None:
        """That of the second moment, if the layer's settings say it."""
        return [self.weight.shape[0]]

    # What a compiled forward pass has made its backward pass could not change.
    @torch.compiler.disable(reason=_NOT_BEGUN)  # type: ignore[untyped-decorator]
    def _begin_moment(self, size: list[int]) -> Tensor:
        with _BEGINNING:
            moment = self.second_moment
            if moment is None or moment.is_meta or list(moment.shape) != size:
                moment = torch.zeros(size, device=self.weight.device, dtype=_accumulator(self.weight))
            self.second_moment = moment.to(device=self.weight.device, dtype=_accumulator(self.weight))
            return self.second_moment

    def _moment(self, size: Callable[[], list[int]]) -> Tensor:
        """The second moment, which begins with the first pass that can change it where it did not before, and is where the
        weight is: that may have moved by itself, as by load_state_dict(assign=True)."""
        moment, weight = self.second_moment, self.weight
        if moment is not None and moment.device == weight.device and moment.dtype == _accumulator(weight):
            return moment
        if torch.compiler.is_exporting():
            raise RuntimeError(f"{type(self).__name__}: {_NOT_BEGUN} (in torch.no_grad() it is the plain one)")
        begun: Tensor = self._begin_moment(list(moment.shape) if moment is not None else self._moment_size() or size())
        return begun

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = self.second_moment
        super()._apply(fn, recurse)
        moment = self.second_moment
        if before is None or moment is None:
            return self
        if before.is_meta and not moment.is_meta:  # to_empty: there are no values
            self.second_moment = None
        elif moment.dtype not in (torch.float32, torch.float64):  # not by way of half precision
            self.second_moment = before.to(moment.device)
        elif moment is not before and not moment.is_meta:  # to_empty leaves whatever was in memory
            moment.copy_(before)
        return self

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, svgd={self.svgd!r}"


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _accumulator(weight: Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


class Linear(_Hatted, nn.Linear):
    """``torch.nn.Linear`` whose weight gets virtual gradients from :class:`Svgd`'s second moment, ``[out_features]``.

    Outputs, and the gradients of input and bias, are those of ``torch.nn.Linear`` to the bit; so are parameters, their
    initialisation and ``state_dict``. Each backward pass in which the weight needs a gradient changes ``second_moment``, a
    buffer beside the ``state_dict``: see :func:`state_dict`.

    >>> layer = Linear(4, 3, svgd=Svgd(scale=0.1))
    >>> layer(torch.randn(8, 4)).square().mean().backward()
    >>> layer.weight.grad.shape, layer.second_moment.shape
    (torch.Size([3, 4]), torch.Size([3]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        svgd: Svgd | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._begin(svgd)

    def forward(self, input: Tensor) -> Tensor:
        if not self._trains():
            return super().forward(input)
        moment = self._moment(lambda: [self.weight.shape[0]])
        arguments = self.svgd._arguments(lambda: math.prod(input.shape[:-1]))
        output: Tensor = torch.ops.svgd.linear(input, self.weight, self.bias, moment, *arguments)
        return output


class Conv2d(_Hatted, nn.Conv2d):
    """``torch.nn.Conv2d`` whose weight gets virtual gradients from :class:`Svgd`'s second moment.

    That is ``[out_channels, height, width]`` of the output, and so belongs to one image size, or ``[out_channels]`` with
    ``granularity="channel"``. The gradient of the bias is rounded otherwise than the original's; all else is as it is with
    :class:`Linear`. Every ``padding`` and ``padding_mode`` of ``torch.nn.Conv2d`` is there.

    >>> layer = Conv2d(3, 8, 3, padding=1)
    >>> layer(torch.randn(2, 3, 6, 6)).square().mean().backward()
    >>> layer.second_moment.shape
    torch.Size([8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        svgd: Svgd | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._begin(svgd)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._trains():
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        input, padding = self._pad(input)
        moment = self._moment(lambda: self._output_size(input, padding))
        geometry = _pair(self.stride), padding, _pair(self.dilation), self.groups
        arguments = self.svgd._arguments(lambda: input.shape[0] if input.dim() == 4 else 1)
        output: Tensor = torch.ops.svgd.conv2d(input, weight, bias, moment, *geometry, *arguments)
        return output

    def _pad(self, input: Tensor) -> tuple[Tensor, list[int]]:
        """The input, padded as far as the convolution does not, and what the convolution pads: by the layer as it is now."""
        if self.padding_mode != "zeros":
            return nn.functional.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), [0, 0]
        if self.padding == "valid":
            return input, [0, 0]
        if self.padding != "same":
            return input, list(_pair(self.padding))
        reach = [d * (k - 1) for d, k in zip(_pair(self.dilation), self.weight.shape[2:], strict=True)]
        if reach[0] % 2 == reach[1] % 2 == 0:
            return input, [reach[0] // 2, reach[1] // 2]
        # Of an even kernel: one more behind than before.
        top, left = reach[0] // 2, reach[1] // 2
        return nn.functional.pad(input, [left, reach[1] - left, top, reach[0] - top]), [0, 0]

    def _moment_size(self) -> list[int] | None:
        return [self.weight.shape[0]] if self.svgd.granularity == "channel" else None

    def _output_size(self, input: Tensor, padding: list[int]) -> list[int]:
        # Where the input does not fit, the operator says so.
        size = [self.weight.shape[0]]
        for axis in (0, 1) if input.dim() in (3, 4) else ():
            reach = _pair(self.dilation)[axis] * (self.weight.shape[axis + 2] - 1)
            padded = input.shape[axis - 2] + 2 * padding[axis]
            size.append(max(0, (padded - reach - 1) // _pair(self.stride)[axis] + 1))
        return size


HATTED = {nn.Linear: Linear, nn.Conv2d: Conv2d}


def layers(model: nn.Module) -> Iterator[tuple[str, Linear | Conv2d]]:
    """The hatted layers of a model with their names, as ``model.named_modules()`` has them.

    >>> [name for name, _ in layers(nn.Sequential(Linear(2, 2), nn.ReLU()))]
    ['0']
    """
    for name, module in model.named_modules():
        if isinstance(module, (Linear, Conv2d)):
            yield name, module
