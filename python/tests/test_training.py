"""What surrounds a model: scalers, data parallelism, hooks of optimizers."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

import tch_svgd
from models import convolutional, gradient, moment, train

PROCESS = """
import sys, torch, torch.distributed as dist, tch_svgd
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from models import batch_of_seed, convolutional, step

rank, store = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
model = tch_svgd.swap_(convolutional())
parallel = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = [step(parallel, optimizer, *batch_of_seed(rank)) for _ in range(5)]
weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
both = [torch.empty_like(weights) for _ in range(2)]
dist.all_gather(both, weights)
assert torch.equal(*both), "the weights are not the same"
assert all((state > 0).any() for state in tch_svgd.state_dict(model).values())
assert losses[-1] < losses[0], losses
# As every buffer that there was when the model was wrapped, it is that of the first process from a forward pass on.
moments = [torch.empty_like(model[4].second_moment) for _ in range(2)]
dist.all_gather(moments, model[4].second_moment)
assert not torch.equal(*moments)
parallel(batch_of_seed(rank)[0])
dist.all_gather(moments, model[4].second_moment)
assert torch.equal(*moments)
dist.destroy_process_group()
"""


def test_a_loss_falls() -> None:
    losses = train(tch_svgd.swap_(convolutional(), tch_svgd.Svgd(scale=0.1)), steps=30)
    assert losses[-1] < losses[0] / 4


def test_data_parallel_processes_keep_equal_weights(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors


def test_a_grad_scaler_and_its_scale_leave_the_moment_that_of_the_true_gradient() -> None:
    svgd = tch_svgd.Svgd()
    model, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(model.state_dict())
    tch_svgd.swap_(model, svgd)
    tch_svgd.swap_(plain)
    scaler = GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, target = torch.randn(5, 4), torch.randn(5, 3)

    svgd.loss_scale = scaler.get_scale()
    scaler.scale(functional.mse_loss(model(x), target)).backward()
    scaler.step(optimizer)
    scaler.update()
    functional.mse_loss(plain(x), target).backward()
    assert torch.equal(tch_svgd.state_dict(model)[""], tch_svgd.state_dict(plain)[""])
    assert torch.equal(gradient(model.weight), gradient(plain.weight))


def test_an_overflowing_step_leaves_the_moment() -> None:
    layer = tch_svgd.Linear(4, 3)
    x = torch.randn(5, 4)
    layer(x).square().sum().backward()
    before = moment(layer).clone()
    (layer(x).square().sum() * float("inf")).backward()
    assert torch.equal(moment(layer), before)
    assert not bool(gradient(layer.weight).isfinite().any())  # for a scaler to see


def test_data_parallel_replicas_of_one_process_work() -> None:
    # nn.DataParallel without a GPU calls the module itself.
    model = tch_svgd.swap_(convolutional())
    assert train(nn.DataParallel(model))[-1] < 1.0
