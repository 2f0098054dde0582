"""Block-normalized gradients: the formulas, and what a block is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tch_svgd
from models import batch, convolutional, equal, gradient


def with_gradients(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def length(tensors: list[Tensor]) -> Tensor:
    flat = torch.cat([tensor.detach().double().flatten() for tensor in tensors])
    return flat.square().sum().sqrt()


@pytest.mark.parametrize(
    "rule, value, factor",
    [
        ("unit", None, lambda g, w: 1 / length(g)),
        ("adaptive", None, lambda g, w: 0.02 * length(w) / length(g)),
        ("adaptive", 0.5, lambda g, w: 0.5 * length(w) / length(g)),
        ("clip", None, lambda g, w: min(1.0, 0.1 / length(g))),
        ("clip", 1e9, lambda g, w: 1.0),
    ],
)
def test_blocks_are_layers_and_get_the_papers_formulas(rule: Any, value: Any, factor: Any) -> None:
    model = with_gradients(convolutional())
    wanted = []
    for module in model:  # type: ignore[attr-defined]
        block = list(module.parameters())
        gradients = [gradient(parameter).clone() for parameter in block]
        wanted += [(each * factor(gradients, block)).float() for each in gradients]
    tch_svgd.BlockNormalizer(model, rule, value).normalize_()
    torch.testing.assert_close([gradient(parameter) for parameter in model.parameters()], wanted)


def test_names_and_norms_are_those_of_the_layers() -> None:
    model = with_gradients(convolutional())
    lengths = {name: length([gradient(p) for p in model[int(name)].parameters()]) for name in "0146"}  # type: ignore[index]
    normalizer = tch_svgd.BlockNormalizer(model)
    normalizer.normalize_()
    torch.testing.assert_close(normalizer.norms, lengths)
    assert normalizer.skipped == 0


def test_tiny_gradients_have_a_norm_and_others_are_counted() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for layer, value in zip(model, (1e-30, 0.0, float("inf")), strict=True):
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, value)
    normalizer = tch_svgd.BlockNormalizer(model)
    normalizer.normalize_()
    tiny, zero, infinite = ([gradient(parameter) for parameter in layer.parameters()] for layer in model)
    torch.testing.assert_close(length(tiny), torch.tensor(1.0, dtype=torch.float64))
    assert all(bool((each == 0).all()) for each in zero)
    assert all(bool(each.isinf().all()) for each in infinite)
    assert normalizer.skipped == 1


def test_layers_of_a_recurrent_network_are_blocks() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(2, 3, num_layers=2, bidirectional=True), "out": nn.Linear(6, 2)})
    normalizer = tch_svgd.BlockNormalizer(with_gradients(model))
    normalizer.normalize_()
    assert list(normalizer.norms) == ["lstm[0]", "lstm[0_reverse]", "lstm[1]", "lstm[1_reverse]", "out"]
    lstm = model["lstm"]
    first = [gradient(parameter) for name, parameter in lstm.named_parameters() if name.endswith("_l0")]
    assert len(first) == 4
    torch.testing.assert_close(length(first), torch.tensor(1.0, dtype=torch.float64))


def test_blocks_can_be_parameters_or_named() -> None:
    model = with_gradients(nn.Linear(2, 3))
    by_parameter = tch_svgd.BlockNormalizer(model, blocks="parameter")
    by_parameter.normalize_()
    assert list(by_parameter.norms) == ["weight", "bias"]
    named = tch_svgd.BlockNormalizer(model, "clip", 0.5, blocks={"all": model.parameters()})
    for _ in range(2):  # an iterator is read once
        named.normalize_()
        assert list(named.norms) == ["all"]


def test_what_has_no_gradient_is_left_out() -> None:
    model = convolutional()
    normalizer = tch_svgd.BlockNormalizer(model)
    normalizer.normalize_()
    assert normalizer.norms == {}
    model[0].requires_grad_(False)
    images, _ = batch()
    model(images).sum().backward()
    normalizer.normalize_()
    assert list(normalizer.norms) == ["1", "4", "6"]


def test_it_goes_with_svgd() -> None:
    model = tch_svgd.swap_(convolutional())
    images, _ = batch()
    model(images).square().sum().backward()
    tch_svgd.BlockNormalizer(model).normalize_()
    torch.testing.assert_close(length([gradient(p) for p in model[4].parameters()]), torch.tensor(1.0, dtype=torch.float64))


def test_a_loss_scale_of_a_power_of_two_changes_no_bit() -> None:
    model = with_gradients(convolutional())
    scaled = convolutional()
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        other.grad = gradient(one) * 1024
    for each in (model, scaled):
        tch_svgd.BlockNormalizer(each).normalize_()
    assert equal([gradient(p) for p in model.parameters()], [gradient(p) for p in scaled.parameters()])


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"normalization": "norm"}, "'normalization': expected one of unit, adaptive, clip, got 'norm'"),
        ({"value": 0.1}, "'value': expected none with 'unit', got 0.1"),
        ({"normalization": "clip", "value": 0.0}, "'value': expected a finite number, at least 1e-37, got 0.0"),
        ({"normalization": "clip", "value": float("nan")}, "'value': expected a finite number"),
        ({"blocks": "layers"}, "'blocks': expected 'layer', 'parameter' or a mapping, got 'layers'"),
        ({"blocks": {}}, "Linear has no parameters"),
    ],
)
def test_bad_settings_are_errors(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tch_svgd.BlockNormalizer(nn.Linear(2, 2), **arguments)
    with pytest.raises(ValueError, match="ReLU has no parameters"):
        tch_svgd.BlockNormalizer(nn.ReLU())


def test_a_block_is_a_list_and_a_parameter_is_in_one_block() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"block 'a': expected a list of parameters, got one: \[parameter\]"):
        tch_svgd.BlockNormalizer(layer, blocks={"a": layer.weight})
    with pytest.raises(ValueError, match="expected each parameter in one block, got one twice"):
        tch_svgd.BlockNormalizer(layer, blocks={"a": list(layer.parameters()), "b": layer.parameters()})
    with pytest.raises(ValueError, match="'normalization': expected one of"):
        tch_svgd.BlockNormalizer(layer, ["unit"])  # type: ignore[arg-type]


# A graph of CUDA can hold what neither reads a number on the host nor does more where there are more layers.
def test_the_work_is_a_list_of_operations_that_no_layer_makes_longer() -> None:
    def operations(layers: int) -> list[str]:
        model = with_gradients(nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers))))
        normalizer = tch_svgd.BlockNormalizer(model, "adaptive")
        normalizer.normalize_()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            normalizer.normalize_()
        names = {event.name for event in profile.events()}
        assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero"}
        inner = [event for event in profile.events() if event.name == "bng::normalize_"][-1]
        views = {"aten::select", "aten::expand", "aten::narrow", "aten::as_strided", "aten::split_with_sizes"}
        return [child.name for child in inner.cpu_children if child.name not in views]

    few = operations(2)
    assert few == operations(20)
    # Over all elements: the lengths, those of the weights, the factors side by side, and the product.
    assert [few.count(name) for name in ("aten::cat", "aten::_foreach_mul_")] == [1, 1], few
