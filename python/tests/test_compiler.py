"""torch.compile, torch.export, and what they ask of operators."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import tch_svgd
from models import batch, convolutional, equal, moment, train

KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def arguments_of(op: str) -> tuple[Any, ...]:
    settings = (0.01, 0.9, 1e-6, 1.0)
    images, kernels = torch.randn(2, 2, 6, 6, requires_grad=True), torch.randn(4, 2, 3, 3, requires_grad=True)
    rows, weight, bias = (torch.randn(size, requires_grad=True) for size in ([5, 4], [3, 4], [3]))
    gradients = [torch.randn(3, 4), torch.randn(3)]
    return {
        "svgd.linear": (rows, weight, bias, torch.zeros(3), *settings, False),
        "svgd.conv2d": (images, kernels, None, torch.zeros(4, 6, 6), [1, 1], [1, 1], [1, 1], 1, *settings, True),
        "svgd.virtual_grad": (torch.randn(4, 5), torch.zeros(5), *settings),
        "tso_alra.linear": (rows, weight, bias, torch.zeros(1, 5, 5), torch.zeros(1, 3, 3), torch.eye(5)[None],
                            torch.eye(3)[None], 0.05, 0.0, False, True, True, True),
        "bng.normalize_": (gradients, [each.clone() for each in gradients], [2], torch.zeros(1, dtype=torch.float64),
                           torch.tensor(0), "unit", 1.0),
    }[op]  # fmt: skip


@pytest.mark.parametrize("op", ["svgd.linear", "svgd.conv2d", "svgd.virtual_grad", "tso_alra.linear", "bng.normalize_"])
def test_opcheck_has_no_objection(op: str) -> None:
    namespace, name = op.split(".")
    overload = getattr(getattr(torch.ops, namespace), name).default
    torch.library.opcheck(overload, arguments_of(op))


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_model_trains_as_it_does_without(backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    model = tch_svgd.swap_(convolutional())
    model(batch()[0])
    copied = copy.deepcopy(model)
    compiled = torch.compile(copied, backend=backend, dynamic=dynamic, fullgraph=True)
    losses, of_compiled = train(model), train(compiled)
    torch.testing.assert_close(of_compiled, losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(list(copied.parameters()), list(model.parameters()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tch_svgd.state_dict(copied), tch_svgd.state_dict(model), rtol=1e-4, atol=1e-9)
    assert all(bool((state > 0).any()) for state in tch_svgd.state_dict(copied).values())


def test_compiled_before_its_first_pass_it_trains_all_the_same() -> None:
    torch._dynamo.reset()
    model = tch_svgd.swap_(convolutional())
    copied = copy.deepcopy(model)
    torch.testing.assert_close(train(torch.compile(copied, backend="aot_eager")), train(model), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tch_svgd.state_dict(copied), tch_svgd.state_dict(model), rtol=1e-4, atol=1e-9)


def test_a_full_graph_before_the_first_pass_is_an_error_that_says_what_to_do() -> None:
    torch._dynamo.reset()
    model = torch.compile(tch_svgd.swap_(convolutional()), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="call the model once before it is compiled or exported"):
        model(batch()[0])


def test_compiled_autograd_trains_as_well() -> None:
    torch._dynamo.reset()
    model = tch_svgd.swap_(convolutional())
    model(batch()[0])
    copied = copy.deepcopy(model)
    losses = train(model)
    with torch._dynamo.config.patch(compiled_autograd=True):
        of_compiled = train(torch.compile(copied, backend="aot_eager"))
    torch.testing.assert_close(of_compiled, losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tch_svgd.state_dict(copied), tch_svgd.state_dict(model), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_it_computes_the_same(strict: bool) -> None:
    torch._dynamo.reset()
    model = tch_svgd.swap_(convolutional()).eval()
    images, _ = batch()
    with torch.no_grad():
        plain = torch.export.export(model, (images,), strict=strict)
        assert torch.equal(plain.module()(images), model(images))
    assert not any("svgd" in str(node.target) for node in plain.graph.nodes)
    with pytest.raises(Exception, match="call the model once before it is compiled or exported"):
        torch.export.export(model, (images,), strict=strict)
    model(images)
    hatted = torch.export.export(model, (images,), strict=strict)
    assert any("svgd" in str(node.target) for node in hatted.graph.nodes)
    assert torch.equal(hatted.module()(images), model(images))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_the_state_once(use_reentrant: bool) -> None:
    model = tch_svgd.swap_(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))
    copied = copy.deepcopy(model)
    x = torch.randn(5, 4, requires_grad=True)
    functional.mse_loss(model(x), torch.ones(5, 2)).backward()
    through = torch.utils.checkpoint.checkpoint(copied, x, use_reentrant=use_reentrant)
    functional.mse_loss(through, torch.ones(5, 2)).backward()
    assert equal(tch_svgd.state_dict(copied).values(), tch_svgd.state_dict(model).values())
    assert equal([p.grad for p in copied.parameters()], [p.grad for p in model.parameters()])  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_keeps_the_moment_in_single_precision(kind: str) -> None:
    model = tch_svgd.swap_(convolutional())
    with torch.autocast("cpu", KINDS[kind], enabled=kind != "float32"):
        output = model(batch()[0])
    assert output.dtype == KINDS[kind]
    output.float().square().mean().backward()
    assert all(state.dtype == torch.float32 for state in tch_svgd.state_dict(model).values())
    assert bool((moment(model[0]) > 0).any())


def test_functional_call_is_the_layer() -> None:
    layer = tch_svgd.Linear(4, 3)
    x = torch.randn(5, 4)
    parameters: dict[str, torch.Tensor] = dict(layer.named_parameters())
    assert torch.equal(torch.func.functional_call(layer, parameters, (x,)), layer(x))


def test_function_transforms_are_right_or_refused() -> None:
    layer = tch_svgd.Linear(4, 3)
    x, along = torch.randn(5, 4), torch.randn(5, 4)
    values = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()  # type: ignore[no-any-return]

    with pytest.raises(RuntimeError, match="do not go with function transforms"):
        torch.func.grad(loss)(values)
    layer.svgd.enabled = False
    assert torch.func.grad(loss)(values)["weight"].shape == (3, 4)
    layer.svgd.enabled = True
    tangent = torch.func.jvp(layer, (x,), (along,))[1]
    torch.testing.assert_close(tangent, along @ layer.weight.T)
    # One by one: the state changes with each.
    torch.vmap(layer)(x[:2]).sum().backward()
    one_by_one = tch_svgd.Linear(4, 3)
    for row in x[:2]:
        one_by_one(row).sum().backward()
    assert torch.equal(moment(layer), moment(one_by_one))


def test_a_batch_of_any_size_can_be_exported() -> None:
    model = tch_svgd.swap_(convolutional())
    images, _ = batch()
    model(images)
    exported = torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    more, _ = batch(11)
    assert torch.equal(exported.module()(more), model(more))


def test_models_that_are_stacked_are_refused_with_a_way_out() -> None:
    models = [tch_svgd.Linear(4, 3) for _ in range(2)]
    parameters, _ = torch.func.stack_module_state(models)
    x = torch.randn(5, 4)

    def call(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(models[0], parameters, (x,))  # type: ignore[no-any-return]

    with pytest.raises(RuntimeError, match="do not go with function transforms of the weight .*: svgd.enabled = False"):
        torch.vmap(call)(parameters)
    with torch.no_grad():
        assert torch.vmap(call)(parameters).shape == (2, 5, 3)


def test_what_compiled_backward_passes_do_otherwise_is_as_the_readme_says() -> None:
    torch._dynamo.reset()
    layer = tch_svgd.Linear(3, 2)
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(4, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (compiled(x).mean() - compiled(x + 1).mean()).backward()
    tch_svgd.reset_(layer)
    torch.autograd.grad(compiled(x).sum(), x)
    assert bool((moment(layer) > 0).all())
