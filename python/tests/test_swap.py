"""Swapping layers in place, and back."""

import copy
import io

import pytest
import torch
from torch import nn

import tch_svgd
from models import batch, convolutional, equal, moment, step, train


def test_modules_and_parameters_stay_the_same_objects() -> None:
    model = convolutional()
    modules, parameters = list(model.modules()), list(model.parameters())
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    assert tch_svgd.swap_(model) is model
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert [name for name, _ in tch_svgd.layers(model)] == ["0", "4", "6"]
    model(batch()[0])
    assert calls == [1]


def test_an_optimizer_made_before_goes_on() -> None:
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, labels = batch()
    first = step(model, optimizer, images, labels)
    tch_svgd.swap_(model, tch_svgd.Svgd(scale=0.1))
    for _ in range(20):
        last = step(model, optimizer, images, labels)
    assert last < first / 2


def test_checkpoints_of_plain_and_hatted_models_are_the_same() -> None:
    plain, hatted = convolutional(), tch_svgd.swap_(convolutional())
    train(hatted)
    assert plain.state_dict().keys() == hatted.state_dict().keys()
    plain.load_state_dict(hatted.state_dict())
    hatted.load_state_dict(plain.state_dict())
    images, _ = batch()
    assert torch.equal(plain(images), hatted(images))


def test_unswapped_it_is_as_before() -> None:
    model = convolutional()
    before = repr(model), [sorted(vars(module)) for module in model.modules()]
    tch_svgd.swap_(model)
    train(model)
    tch_svgd.unswap_(model)
    assert (repr(model), [sorted(vars(module)) for module in model.modules()]) == before
    assert not list(tch_svgd.layers(model))
    assert [type(layer) for layer in (model[0], model[4])] == [nn.Conv2d, nn.Linear]
    tch_svgd.swap_(model)


def test_where_chooses() -> None:
    model = tch_svgd.swap_(convolutional(), where=lambda name, module: isinstance(module, nn.Linear) and name != "6")
    assert [name for name, _ in tch_svgd.layers(model)] == ["4"]


def test_a_layer_alone_is_swapped_itself() -> None:
    layer = nn.Linear(3, 2)
    tch_svgd.swap_(layer)
    assert type(layer) is tch_svgd.Linear


def test_what_is_derived_stays() -> None:
    attention = nn.MultiheadAttention(4, 2)
    model = tch_svgd.swap_(nn.ModuleList([attention, nn.Linear(4, 4)]))
    assert [name for name, _ in tch_svgd.layers(model)] == ["1"]


def test_nothing_to_swap_is_an_error() -> None:
    with pytest.raises(ValueError, match="swap_: ReLU: nothing to swap: it has no torch.nn.Linear"):
        tch_svgd.swap_(nn.ReLU())
    with pytest.raises(ValueError, match="nothing to swap: 'where' took none of 0, 4, 6"):
        tch_svgd.swap_(convolutional(), where=lambda *_: False)
    model = tch_svgd.swap_(convolutional())
    with pytest.raises(ValueError, match="that is not swapped yet"):
        tch_svgd.swap_(model)


def test_settings_of_another_type_change_nothing() -> None:
    model = convolutional()
    with pytest.raises(TypeError, match="expected a tch_svgd.Svgd, got float"):
        tch_svgd.swap_(model, 0.01)  # type: ignore[arg-type]
    assert type(model[0]) is nn.Conv2d


def test_a_layer_used_twice_by_name_is_swapped_once() -> None:
    shared = nn.Linear(3, 3)
    model = tch_svgd.swap_(nn.Sequential(shared, nn.ReLU(), shared))
    assert model[0] is model[2]
    model(torch.randn(2, 3)).sum().backward()
    assert bool((moment(model[0]) > 0).any())


def test_copies_and_pickles_have_state_and_settings_of_their_own() -> None:
    svgd = tch_svgd.Svgd(scale=0.1)
    model = tch_svgd.swap_(convolutional(), svgd)
    train(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert equal(tch_svgd.state_dict(other).values(), tch_svgd.state_dict(model).values())
        settings = {id(layer.svgd) for _, layer in tch_svgd.layers(other)}
        assert len(settings) == 1 and settings != {id(svgd)}
        there, here = train(other), train(copy.deepcopy(model))
        assert there == here
        assert not equal(tch_svgd.state_dict(other).values(), tch_svgd.state_dict(model).values())


def test_what_is_derived_is_named_where_there_is_nothing_else() -> None:
    class Mine(nn.Linear):
        pass

    with pytest.raises(ValueError, match=r"what is derived from them is not swapped: '0' \(Mine\)"):
        tch_svgd.swap_(nn.Sequential(Mine(2, 2)))


def test_a_layer_with_such_an_attribute_leaves_all_as_they_were() -> None:
    model = convolutional()
    setattr(model[6], "svgd", 1)  # noqa: B010
    with pytest.raises(ValueError, match="layer '6': has an attribute 'svgd' of its own"):
        tch_svgd.swap_(model)
    assert type(model[0]) is nn.Conv2d


def test_unswapping_is_whole_or_not_at_all() -> None:
    model = tch_svgd.swap_(convolutional())
    nn.utils.parametrizations.weight_norm(model[6])
    with pytest.raises(TypeError, match="layer '6': expected a tch_svgd.Linear .*: remove its parametrizations first"):
        tch_svgd.unswap_(model)
    assert type(model[0]) is tch_svgd.Conv2d


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a torch.nn.Module, got list"):
        tch_svgd.swap_([nn.Linear(2, 2)])  # type: ignore[type-var]
