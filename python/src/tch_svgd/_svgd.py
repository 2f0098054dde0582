"""The settings of SVGD."""

from __future__ import annotations

import ctypes
import math
import numbers
from collections.abc import Callable
from typing import Literal, get_args

Granularity = Literal["element", "channel"]
BatchGradient = Literal["as_received", "per_example"]


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class Svgd:
    """The settings of SVGD (Li & Shu 2019, Algorithm 1), shared by all layers that are given the same one.

    With ``g`` the gradient of a layer's output, ``r`` its second moment, which starts at 0, and means over the batch, a
    backward pass computes::

        r = decay * r + (1 - decay) * mean((k * g) ** 2)    # updated first ...
        t = scale * g / sqrt(r + eps)                       # ... and then used
        weight.grad = the layer's gradient of its weight for t in the place of g

    while the gradients of input and bias are the true ones. The defaults are the authors' for ResNet-20.

    Args:
        scale: the factor of the virtual gradient (paper: 0.1 MLP, 0.001 VGG, 0.01 ResNet). Finite, at least 0.
        decay: what the second moment keeps in an update. In [0, 1).
        eps: added to the second moment below the root. Finite, above 0.
        granularity: ``"element"``, one value for each element of a convolution's output (the paper's; it belongs to one
            image size), or ``"channel"``, one for each channel, for any image size. A layer takes it from its ``Svgd`` when
            its second moment begins.
        batch_gradient: the ``k`` of the formula. ``"as_received"``, 1 (as the authors ran it, for a loss that is a mean over
            the batch), or ``"per_example"``, the batch size (Algorithm 1 to the letter).
        virtual_bias: whether biases get the sum of the virtual gradient (Algorithm 1 to the letter) instead of the true one.

    Where a mean is not finite that element of ``r`` stays as it is, while ``t`` is not finite, for a ``GradScaler`` to see. All
    settings can be changed at any time, from the next forward pass on (``svgd.scale = 0.001``), but for the granularity of a
    second moment that has begun, which :func:`reset_` forgets. And two more:

    Attributes:
        enabled: False makes plain layers of them, whose second moments stay as they are.
        loss_scale: what the loss is multiplied by, for the second moments, which are those of the true gradient:
            ``svgd.loss_scale = scaler.get_scale()`` before each forward pass with ``torch.amp.GradScaler``.

    >>> svgd = Svgd(scale=0.1)
    >>> svgd.scale /= 10
    >>> svgd.decay = 1.0
    Traceback (most recent call last):
    ValueError: Svgd: 'decay': expected a number in [0, 1), got 1.0
    """

    scale: float
    decay: float
    eps: float
    granularity: Granularity
    batch_gradient: BatchGradient
    virtual_bias: bool
    enabled: bool
    loss_scale: float

    def __init__(
        self,
        scale: float = 0.01,
        decay: float = 0.9,
        eps: float = 1e-6,
        *,
        granularity: Granularity = "element",
        batch_gradient: BatchGradient = "as_received",
        virtual_bias: bool = False,
    ) -> None:
        self.scale = scale
        self.decay = decay
        self.eps = eps
        self.granularity = granularity
        self.batch_gradient = batch_gradient
        self.virtual_bias = virtual_bias
        self.enabled = True
        self.loss_scale = 1.0

    def __setattr__(self, name: str, value: object) -> None:
        expected = _expected(name, value)
        if expected is not None:
            raise ValueError(f"Svgd: '{name}': expected {expected}, got {value!r}")
        # As the operators take them.
        super().__setattr__(name, float(value) if _is_number(value) else value)  # type: ignore[arg-type]

    def _arguments(self, samples: Callable[[], int]) -> tuple[float, float, float, float, bool]:
        """What the operators of all layers take, for a batch of so many samples."""
        if self.batch_gradient == "as_received":
            k = 1.0 / self.loss_scale
        else:
            k = 0.0 if self.loss_scale == 1.0 else samples() / self.loss_scale  # 0: they count the samples
        return self.scale, self.decay, self.eps, k, self.virtual_bias

    def __repr__(self) -> str:
        initial = {"enabled": True, "loss_scale": 1.0}
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if name not in initial or value != initial[name]]
        return f"Svgd({', '.join(shown)})"


def _expected(name: str, value: object) -> str | None:
    """What a setting is to be, if it is not that. AttributeError if there is no such setting."""
    try:
        number = float(value) if _is_number(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    # The kernels compute in float32 for all but float64: a value must keep its meaning there. All are false for NaN.
    rounded = ctypes.c_float(number).value
    finite = math.isfinite(rounded)
    checks = {
        "scale": (finite and number >= 0.0, "a finite number >= 0"),
        "decay": (number >= 0.0 and rounded < 1.0, "a number in [0, 1)"),
        "eps": (finite and rounded > 0.0, "a finite number > 0"),
        "loss_scale": (finite and rounded > 0.0, "a finite number > 0"),
        "granularity": (value in get_args(Granularity), "'element' or 'channel'"),
        "batch_gradient": (value in get_args(BatchGradient), "'as_received' or 'per_example'"),
        "virtual_bias": (isinstance(value, bool), "True or False"),
        "enabled": (isinstance(value, bool), "True or False"),
    }
    if name not in checks:
        raise AttributeError(f"Svgd has no setting '{name}': it has {', '.join(checks)}")
    valid, expected = checks[name]
    return None if valid else expected
