"""Small models, and a step of training."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# What torch.compile gives is a callable for its types.
Model = nn.Module | Callable[..., Any]


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 8),
        nn.ReLU(),
        nn.Linear(8, 2),
    )


def batch(size: int = 8) -> tuple[Tensor, Tensor]:
    images = torch.randn(size, 1, 6, 6)
    return images, (images.mean((1, 2, 3)) > 0).long()


def step(model: Model, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def train(model: Model, steps: int = 5, lr: float = 0.1) -> list[float]:
    """The losses of a few steps on one batch, which is always the same."""
    images, labels = batch_of_seed(1)
    optimizer = torch.optim.SGD(cast(nn.Module, model).parameters(), lr)
    return [step(model, optimizer, images, labels) for _ in range(steps)]


def batch_of_seed(seed: int) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return batch()


def gradient(parameter: Tensor | None) -> Tensor:
    assert parameter is not None and parameter.grad is not None
    return parameter.grad


def moment(layer: nn.Module) -> Tensor:
    return cast(Tensor, layer.second_moment)


def equal(these: Iterable[Tensor], those: Iterable[Tensor]) -> bool:
    """To the bit."""
    return all(torch.equal(this, that) for this, that in zip(these, those, strict=True))
