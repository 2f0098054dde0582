"""The layers against PyTorch's own, and their gradients against Algorithm 1."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

import tch_svgd
from models import equal, gradient, moment


def virtual(svgd: tch_svgd.Svgd, g: Tensor, r: Tensor, k: float, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Algorithm 1 as it stands: the virtual gradient of the gradient g, and the new second moment."""
    r = svgd.decay * r + (1 - svgd.decay) * (k * g).square().mean(axes)
    shaped = r.reshape([1, *r.shape, *[1] * (g.dim() - 1 - r.dim())]) if g.dim() == 4 else r
    return svgd.scale * g / (shaped + svgd.eps).sqrt(), r


@pytest.mark.parametrize("batch_gradient", ["as_received", "per_example"])
@pytest.mark.parametrize("virtual_bias", [False, True])
@pytest.mark.parametrize("leading", [(5,), (2, 3)])
def test_linear_is_algorithm_1(batch_gradient: Any, virtual_bias: bool, leading: tuple[int, ...]) -> None:
    svgd = tch_svgd.Svgd(scale=0.3, decay=0.7, eps=1e-4, batch_gradient=batch_gradient, virtual_bias=virtual_bias)
    layer = tch_svgd.Linear(4, 3, dtype=torch.float64, svgd=svgd)
    rows = torch.Size(leading).numel()
    r = torch.zeros(3, dtype=torch.float64)
    for _ in range(3):
        x = torch.randn(*leading, 4, dtype=torch.float64, requires_grad=True)
        g = torch.randn(*leading, 3, dtype=torch.float64)
        layer.zero_grad()
        layer(x).backward(g)
        rows_of_g, rows_of_x = g.reshape(rows, 3), x.detach().reshape(rows, 4)
        t, r = virtual(svgd, rows_of_g, r, k=rows if batch_gradient == "per_example" else 1, axes=(0,))
        torch.testing.assert_close(gradient(layer.weight), t.T @ rows_of_x)
        torch.testing.assert_close(gradient(layer.bias), (t if virtual_bias else rows_of_g).sum(0))
        torch.testing.assert_close(gradient(x), g @ layer.weight.detach())
        torch.testing.assert_close(moment(layer), r)


@pytest.mark.parametrize("granularity", ["element", "channel"])
@pytest.mark.parametrize("stride, padding, dilation, groups", [(1, 0, 1, 1), ((2, 1), (1, 2), (1, 2), 2)])
def test_conv2d_is_algorithm_1(granularity: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    svgd = tch_svgd.Svgd(scale=0.3, decay=0.7, eps=1e-4, granularity=granularity)
    layer = tch_svgd.Conv2d(2, 4, (3, 2), stride, padding, dilation, groups, dtype=torch.float64, svgd=svgd)
    plain = nn.Conv2d(2, 4, (3, 2), stride, padding, dilation, groups, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    r: Tensor | None = None
    for _ in range(3):
        x = torch.randn(5, 2, 7, 9, dtype=torch.float64)
        output = layer(x)
        g = torch.randn_like(output)
        layer.zero_grad()
        plain.zero_grad()
        output.backward(g)
        axes = (0,) if granularity == "element" else (0, 2, 3)
        r = (
            torch.zeros(output.shape[1:] if granularity == "element" else output.shape[1], dtype=torch.float64)
            if r is None
            else r
        )
        t, r = virtual(svgd, g, r, 1, axes)
        # The original's gradient of its weight, for t in the place of g.
        plain(x).backward(t)
        torch.testing.assert_close(gradient(layer.weight), gradient(plain.weight))
        torch.testing.assert_close(gradient(layer.bias), g.sum((0, 2, 3)))
        torch.testing.assert_close(moment(layer), r)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding, kernel_size", [(0, 3), ((2, 1), 3), ("valid", 3), ("same", 3), ("same", (4, 3))])
@pytest.mark.parametrize("batched", [True, False])
def test_conv2d_gives_what_the_original_gives(padding_mode: Any, padding: Any, kernel_size: Any, batched: bool) -> None:
    layer = tch_svgd.Conv2d(2, 4, kernel_size, padding=padding, padding_mode=padding_mode)
    plain = nn.Conv2d(2, 4, kernel_size, padding=padding, padding_mode=padding_mode)
    plain.load_state_dict(layer.state_dict())
    size = (3, 2, 7, 8) if batched else (2, 7, 8)
    x = torch.randn(size, requires_grad=True)
    output, wanted = layer(x), plain(x)
    assert torch.equal(output, wanted)
    (input_gradient,) = torch.autograd.grad(output.square().sum(), x)
    (wanted_gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    assert torch.equal(input_gradient, wanted_gradient)
    assert moment(layer).shape == output.shape[-3:]


def test_linear_gives_what_the_original_gives() -> None:
    layer, plain = tch_svgd.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 4)
    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer(x[0, 0]), plain(x[0, 0]))


def test_the_same_seed_gives_the_same_parameters() -> None:
    torch.manual_seed(3)
    hatted = [tch_svgd.Linear(4, 3), tch_svgd.Conv2d(2, 4, 3)]
    torch.manual_seed(3)
    plain = [nn.Linear(4, 3), nn.Conv2d(2, 4, 3)]
    for these, those in zip(hatted, plain, strict=True):
        assert these.state_dict().keys() == those.state_dict().keys()
        assert equal(these.state_dict().values(), those.state_dict().values())


def test_state_changes_where_the_weight_is_trained_and_nowhere_else() -> None:
    layer, x = tch_svgd.Linear(4, 3), torch.randn(5, 4, requires_grad=True)

    def changes(loss: Any) -> bool:
        before = moment(layer).clone()
        loss().backward()
        return not torch.equal(before, moment(layer))

    assert changes(lambda: layer(x).sum())
    layer.svgd.enabled = False
    assert not changes(lambda: layer(x).sum())
    layer.svgd.enabled = True
    layer.weight.requires_grad_(False)
    assert not changes(lambda: layer(x).sum())
    layer.weight.requires_grad_(True)
    before = moment(layer).clone()
    with torch.no_grad():
        layer(x)
    layer(x)  # no backward pass
    assert torch.equal(before, moment(layer))


def test_disabled_gives_plain_gradients() -> None:
    layer, plain, x = tch_svgd.Linear(4, 3), nn.Linear(4, 3), torch.randn(5, 4)
    plain.load_state_dict(layer.state_dict())
    layer.svgd.enabled = False
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert torch.equal(gradient(layer.weight), gradient(plain.weight))


def test_a_loss_scale_cancels_to_the_bit() -> None:
    model = nn.Sequential(tch_svgd.Conv2d(1, 2, 3), nn.Flatten(), tch_svgd.Linear(8, 2))
    scaled = copy.deepcopy(model)
    x = torch.randn(5, 1, 4, 4)
    for step in range(3):
        for each, scale in ((model, 1.0), (scaled, 2.0**step * 64)):
            each.zero_grad()
            for _, layer in tch_svgd.layers(each):
                layer.svgd.loss_scale = scale
            (each(x).square().mean() * scale).backward()
        assert equal(tch_svgd.state_dict(model).values(), tch_svgd.state_dict(scaled).values())
        unscaled = [gradient(parameter) / (2.0**step * 64) for parameter in scaled.parameters()]
        assert equal([gradient(parameter) for parameter in model.parameters()], unscaled)


def test_a_per_example_loss_scale_counts_the_samples() -> None:
    one, other = (tch_svgd.Linear(4, 3, svgd=tch_svgd.Svgd(batch_gradient="per_example")) for _ in range(2))
    x = torch.randn(8, 4)
    one(x).sum().backward()
    other.load_state_dict(one.state_dict())
    other.svgd.loss_scale = 4.0
    (other(x).sum() * 4).backward()
    assert torch.equal(moment(one), moment(other))


def test_the_moment_goes_where_the_layer_goes_and_stays_in_single_precision() -> None:
    layer = tch_svgd.Linear(4, 3)
    layer(torch.randn(5, 4)).sum().backward()
    kept = moment(layer).clone()
    for half in (torch.float16, torch.bfloat16):
        layer.to(half)
        assert layer.weight.dtype == half
        assert torch.equal(moment(layer), kept)
    layer.double()
    assert moment(layer).dtype == torch.float64
    assert torch.equal(moment(layer), kept.double())
    layer.to_empty(device="cpu")
    assert torch.equal(moment(layer), kept.double())
    layer.to("meta")
    assert moment(layer).is_meta
    layer.to_empty(device="cpu")
    nn.init.ones_(layer.weight)
    layer(torch.randn(5, 4, dtype=torch.float64)).sum().backward()
    assert bool(moment(layer).isfinite().all())


def test_another_image_size_is_an_error_that_says_what_to_do() -> None:
    layer = tch_svgd.Conv2d(1, 2, 3)
    layer(torch.randn(1, 1, 6, 6)).sum().backward()
    with pytest.raises(ValueError, match=r"svgd::conv2d: argument 'second_moment': expected shape \[2, 6, 6\]"):
        layer(torch.randn(1, 1, 8, 8))
    tch_svgd.reset_(layer)
    assert layer(torch.randn(1, 1, 8, 8)).shape == (1, 2, 6, 6)
    by_channel = tch_svgd.Conv2d(1, 2, 3, svgd=tch_svgd.Svgd(granularity="channel"))
    for size in (6, 8):
        by_channel(torch.randn(1, 1, size, size)).sum().backward()


@pytest.mark.parametrize(
    "pass_, error, text",
    [
        (lambda: tch_svgd.Linear(4, 3)(torch.randn(5, 7)), ValueError, "svgd::linear: argument 'input'"),
        (lambda: tch_svgd.Linear(4, 3)(torch.randn(5, 4).double()), TypeError, "svgd::linear: argument"),
        (lambda: tch_svgd.Conv2d(1, 2, 3)(torch.randn(1, 1, 2, 2)), ValueError, "expected at least 3 padded rows"),
        (lambda: tch_svgd.Conv2d(1, 2, 3)(torch.randn(1, 3, 4, 4)), ValueError, "svgd::conv2d: argument 'input'"),
        (
            lambda: tch_svgd.Conv2d(1, 2, 3)(torch.randn(4)),
            ValueError,
            "svgd::conv2d: argument 'input': expected 4 dimensions",
        ),
        (lambda: tch_svgd.Linear(4, 3, svgd={"scale": 1}), TypeError, "expected a tch_svgd.Svgd, got dict"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_an_error_that_names_the_argument(pass_: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        pass_()


def test_double_backward_is_refused() -> None:
    layer = tch_svgd.Linear(4, 3)
    (first,) = torch.autograd.grad(layer(torch.randn(5, 4)).square().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not supported"):
        first.sum().backward()


def test_parametrizations_work() -> None:
    layer = nn.utils.parametrizations.weight_norm(tch_svgd.Linear(4, 3))
    assert torch.allclose(layer(x := torch.randn(5, 4)), functional.linear(x, layer.weight, layer.bias))
    layer(x).square().sum().backward()
    assert bool((moment(layer) > 0).all())


def test_the_settings_are_told_in_the_representation() -> None:
    layer = tch_svgd.Linear(4, 3, svgd=tch_svgd.Svgd(scale=0.1, granularity="channel"))
    assert repr(layer) == (
        "Linear(in_features=4, out_features=3, bias=True, svgd=Svgd(scale=0.1, decay=0.9, eps=1e-06, "
        "granularity='channel', batch_gradient='as_received', virtual_bias=False))"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dilation": (2, 2), "padding": (2, 2)},
        {"stride": 2, "padding": 1, "dilation": 1},
        {"padding": "same", "dilation": (3, 1)},
        {"padding": "valid"},
    ],
)
def test_a_geometry_that_is_changed_afterwards_is_the_one_that_counts(changes: dict[str, Any]) -> None:
    layer = tch_svgd.Conv2d(3, 4, 3, padding=1)
    plain = nn.Conv2d(3, 4, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    for name, value in changes.items():
        setattr(layer, name, value)
        setattr(plain, name, value)
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(layer(x), plain(x))
    layer.weight, layer.bias = nn.Parameter(torch.randn(5, 3, 3, 3)), nn.Parameter(torch.zeros(5))
    tch_svgd.reset_(layer)
    assert layer(x).shape[1] == 5


def test_the_moment_is_where_a_weight_is_that_has_moved_by_itself() -> None:
    plain = nn.Linear(3, 2)
    with torch.device("meta"):
        layer = tch_svgd.Linear(3, 2)
    layer.load_state_dict(plain.state_dict(), assign=True)
    layer(torch.randn(4, 3)).sum().backward()
    kept = moment(layer).clone()
    assert bool((kept > 0).all())
    layer.load_state_dict(plain.double().state_dict(), assign=True)
    layer(torch.randn(4, 3, dtype=torch.float64))
    assert torch.equal(moment(layer), kept.double())


def test_weights_that_hooks_make_may_be_converted() -> None:
    layer = nn.Linear(3, 2)
    prune.l1_unstructured(layer, "weight", 0.5)
    tch_svgd.swap_(layer)
    layer(torch.randn(4, 3)).sum().backward()
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        layer.to(kind)
        layer(torch.randn(4, 3, dtype=kind)).sum().backward()
        assert moment(layer).dtype == (torch.float64 if kind == torch.float64 else torch.float32)


def test_threads_begin_one_moment() -> None:
    for _ in range(20):
        layer, x = tch_svgd.Conv2d(1, 2, 3), torch.randn(2, 1, 5, 5)
        found: list[Tensor] = []

        def first_pass(layer: nn.Module = layer, x: Tensor = x, found: list[Tensor] = found) -> None:
            layer(x)
            found.append(moment(layer))

        threads = [threading.Thread(target=first_pass) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({each.data_ptr() for each in found}) == 1
