"""The second moments: kept beside the state_dict, and taken over whole or not at all."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tch_svgd
from models import convolutional, equal, train


def trained(**settings: Any) -> nn.Sequential:
    model = tch_svgd.swap_(convolutional(), tch_svgd.Svgd(**settings))
    train(model)
    return model


def test_a_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    model = trained()
    save_file(tch_svgd.state_dict(model), tmp_path / "svgd.safetensors", tch_svgd.METADATA)
    torch.save(model.state_dict(), tmp_path / "model.pt")

    resumed = tch_svgd.swap_(convolutional())
    resumed.load_state_dict(torch.load(tmp_path / "model.pt"))
    tch_svgd.load_state_dict(resumed, load_file(tmp_path / "svgd.safetensors"))
    assert train(resumed) == train(model)
    assert equal(resumed.parameters(), model.parameters())
    assert equal(tch_svgd.state_dict(resumed).values(), tch_svgd.state_dict(model).values())


def test_what_has_not_begun_is_empty_and_loads_as_such() -> None:
    fresh, model = tch_svgd.swap_(convolutional()), trained()
    state = tch_svgd.state_dict(fresh)
    assert {name: list(moment.shape) for name, moment in state.items()} == {"0": [0], "4": [8], "6": [2]}
    tch_svgd.load_state_dict(model, state)
    assert equal(tch_svgd.state_dict(model).values(), state.values())


def test_a_load_keeps_the_memory_that_fits() -> None:
    model, other = trained(), trained()
    train(other)
    before = {name: moment.data_ptr() for name, moment in tch_svgd.state_dict(model).items()}
    tch_svgd.load_state_dict(model, tch_svgd.state_dict(other))
    assert before == {name: moment.data_ptr() for name, moment in tch_svgd.state_dict(model).items()}
    assert equal(tch_svgd.state_dict(model).values(), tch_svgd.state_dict(other).values())


def test_double_precision_is_converted() -> None:
    model, double = trained(), tch_svgd.swap_(convolutional().double())
    tch_svgd.load_state_dict(double, tch_svgd.state_dict(model))
    assert all(moment.dtype == torch.float64 for moment in tch_svgd.state_dict(double).values())


def replaced(name: str, moment: Any) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.update({name: moment})


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda state: state.pop("4"), r"\['4'\] are lacking, \[\] are too many"),
        (replaced("fc", torch.zeros(2)), r"\[\] are lacking, \['fc'\] are too many"),
        (replaced("4", torch.zeros(7)), r"layer '4': expected shape \[8\], got \[7\]"),
        (replaced("0", torch.zeros(4)), r"layer '0': expected shape \[4, height, width\], got \[4\]"),
        (replaced("0", torch.zeros(5, 6, 6)), r"layer '0': expected shape \[4, height, width\], got \[5, 6, 6\]"),
        (replaced("6", torch.tensor([1.0, -1.0])), "layer '6': expected finite values >= 0"),
        (replaced("6", torch.tensor([1.0, float("nan")])), "layer '6': expected finite values >= 0"),
        (replaced("6", torch.zeros(2, dtype=torch.int64)), "layer '6': expected float32 or float64, got torch.int64"),
        (replaced("6", [0.0, 0.0]), "layer '6': expected a tensor, got list"),
    ],
)
def test_what_does_not_fit_changes_nothing(spoil: Callable[[dict[str, Any]], object], text: str) -> None:
    model, other = trained(), trained()
    before = copy.deepcopy(tch_svgd.state_dict(model))
    state = dict(tch_svgd.state_dict(other))
    spoil(state)
    with pytest.raises(ValueError, match=text):
        tch_svgd.load_state_dict(model, state)
    assert equal(tch_svgd.state_dict(model).values(), before.values())


class OfTheCrate(nn.Module):
    """The layers of the file that the crate's tests have."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"conv": nn.Conv2d(1, 3, 3)})
        self.fc, self.fc__1, self.new = (nn.Linear(3, 2) for _ in range(3))
        # The name of a method: add_module would not have it.
        setattr(self, "double", nn.Linear(3, 2, dtype=torch.float64))  # noqa: B010


def test_a_file_of_the_crate_is_read_and_written_alike(tmp_path: Path) -> None:
    path, again = Path(__file__).parents[2] / "tests/data/second_moments_0.1.safetensors", tmp_path / "again"
    model = tch_svgd.swap_(OfTheCrate())
    file = load_file(path)
    tch_svgd.load_state_dict(model, file)
    state = tch_svgd.state_dict(model)
    for name, loaded in file.items():
        assert torch.equal(state[name], loaded) or name == "new", name
    assert state["double"].dtype == torch.float64
    # Of what has not begun the crate has nothing, and a linear layer here zeros.
    save_file({**state, "new": torch.empty(0)}, again, tch_svgd.METADATA)
    assert again.read_bytes() == path.read_bytes()


def test_the_granularity_is_part_of_the_shape() -> None:
    with pytest.raises(ValueError, match=r"layer '0': expected shape \[4\], got \[4, 6, 6\]"):
        tch_svgd.load_state_dict(trained(granularity="channel"), tch_svgd.state_dict(trained()))


def test_reset_forgets() -> None:
    model = trained()
    tch_svgd.reset_(model)
    fresh = tch_svgd.swap_(convolutional())
    assert equal(tch_svgd.state_dict(model).values(), tch_svgd.state_dict(fresh).values())


def test_a_plain_model_has_no_state() -> None:
    for function in (tch_svgd.state_dict, tch_svgd.reset_):
        with pytest.raises(ValueError, match="Sequential has no tch_svgd.Linear or tch_svgd.Conv2d: swap_ it first"):
            function(convolutional())


def test_a_moment_that_has_begun_is_loaded_whatever_the_settings_are_by_now() -> None:
    model = trained(granularity="channel")
    for _, layer in tch_svgd.layers(model):
        layer.svgd.granularity = "element"
    tch_svgd.load_state_dict(model, copy.deepcopy(tch_svgd.state_dict(model)))


def test_what_single_precision_does_not_hold_is_refused() -> None:
    state = {**tch_svgd.state_dict(trained()), "6": torch.tensor([1.0, 1e300], dtype=torch.float64)}
    with pytest.raises(ValueError, match="layer '6': expected finite values"):
        tch_svgd.load_state_dict(trained(), state)


def test_a_path_is_no_state() -> None:
    with pytest.raises(TypeError, match="expected what state_dict gave, got str"):
        tch_svgd.load_state_dict(trained(), "svgd.pt")  # type: ignore[arg-type]
