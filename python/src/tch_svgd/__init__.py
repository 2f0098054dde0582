"""SVGD's virtual gradients (Li & Shu 2019) for PyTorch: an optimizer that lives inside layers.

    tch_svgd.swap_(model, tch_svgd.Svgd(scale=0.01))    # nn.Linear and nn.Conv2d become tch_svgd.Linear and Conv2d
    loss = criterion(model(inputs), labels)
    loss.backward()                                     # leaves virtual gradients in the weights
    optimizer.step()                                    # any optimizer of torch.optim

This is *virtual gradient descent*, not Stein variational gradient descent. The operators are those of the Rust crate
tch-svgd: ``torch.ops.svgd``, ``torch.ops.tso_alra`` and ``torch.ops.bng``.
"""

from . import _library
from ._blocks import BlockNormalizer, Normalization
from ._layers import Conv2d, Linear, layers
from ._state import METADATA, load_state_dict, reset_, state_dict
from ._svgd import BatchGradient, Granularity, Svgd
from ._swap import swap_, unswap_

__all__ = [
    "METADATA",
    "BatchGradient",
    "BlockNormalizer",
    "Conv2d",
    "Granularity",
    "Linear",
    "Normalization",
    "Svgd",
    "layers",
    "load_state_dict",
    "reset_",
    "state_dict",
    "swap_",
    "unswap_",
]

__version__ = _library.load()
