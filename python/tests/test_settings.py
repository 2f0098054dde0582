"""The settings: their ranges, and that all layers see a change."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tch_svgd
from models import gradient


@pytest.mark.parametrize(
    "name, bad, expected",
    [
        ("scale", [-1, math.nan, math.inf, 1e39, "1", True, None], "a finite number >= 0"),
        ("decay", [-0.1, 1.0, 1 - 1e-9, math.nan], "a number in [0, 1)"),
        ("eps", [0.0, -1e-6, 1e-60, math.inf], "a finite number > 0"),
        ("loss_scale", [0.0, -1.0, math.nan, math.inf], "a finite number > 0"),
        ("granularity", ["elements", None], "'element' or 'channel'"),
        ("batch_gradient", ["mean", 1], "'as_received' or 'per_example'"),
        ("virtual_bias", [1, "yes"], "True or False"),
        ("enabled", [0, None], "True or False"),
    ],
)
def test_what_is_out_of_range_is_an_error_and_changes_nothing(name: str, bad: list[Any], expected: str) -> None:
    svgd = tch_svgd.Svgd()
    before = vars(svgd).copy()
    for value in bad:
        with pytest.raises(ValueError) as error:
            setattr(svgd, name, value)
        assert str(error.value) == f"Svgd: '{name}': expected {expected}, got {value!r}"
    assert vars(svgd) == before


def test_a_misspelt_setting_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(AttributeError, match="Svgd has no setting 'scal': it has scale, decay"):
        tch_svgd.Svgd().scal = 0.1


def test_what_python_takes_the_operators_take() -> None:
    svgd = tch_svgd.Svgd(scale=3.4e38, decay=0.9999999, eps=1e-45)
    layer = tch_svgd.Linear(2, 2, svgd=svgd)
    layer(torch.randn(3, 2)).sum().backward()


def test_a_change_reaches_every_layer() -> None:
    svgd = tch_svgd.Svgd(scale=1.0)
    model = tch_svgd.swap_(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), svgd)
    x = torch.randn(4, 3)
    gradients = []
    for scale in (1.0, 0.5):
        svgd.scale = scale
        model.zero_grad()
        tch_svgd.reset_(model)
        model(x).sum().backward()
        gradients.append([gradient(parameter) for name, parameter in model.named_parameters() if "weight" in name])
    for full, half in zip(*gradients, strict=True):
        assert torch.equal(full / 2, half)


def test_every_real_number_is_a_number() -> None:
    svgd = tch_svgd.Svgd(scale=np.float32(0.5))  # type: ignore[arg-type]
    assert svgd.scale == 0.5 and type(svgd.scale) is float
    with pytest.raises(ValueError, match="'scale': expected a finite number >= 0"):
        svgd.scale = 10**400
