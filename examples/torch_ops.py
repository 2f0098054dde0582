"""The operators in Python: a linear layer of PyTorch's, trained with virtual gradients.

    cargo build --release
    python3 examples/torch_ops.py target/release/libtch_svgd.so

`load` is for copying: it is `torch.ops.load_library`, but tells when the library is built for another PyTorch, where that
one fails with an undefined symbol.
"""

import pathlib
import re
import sys


def load(path):
    """Makes `torch.ops.svgd` from the library at `path`; ImportError if it is built for another version of PyTorch."""
    import torch

    # libtorch's C++ interface changes from release to release, so a library is for one of them.
    built_for = re.search(rb"tch-svgd is built for libtorch (\d+\.\d+\.\d+)", pathlib.Path(path).read_bytes())
    if built_for is None:
        raise ImportError(f"{path} is no library of tch-svgd: `cargo build --release` makes target/release/libtch_svgd.so")
    wanted, found = built_for[1].decode(), torch.__version__.split("+")[0]
    if wanted != found:
        raise ImportError(
            f"{path} is built for PyTorch {wanted}, this Python ({sys.executable}) has PyTorch {found}: "
            f"`pip install torch=={wanted}`, or build the library with the tch that binds {found} (README.md, Versions)"
        )
    torch.ops.load_library(str(path))


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python3 examples/torch_ops.py LIBRARY, such as target/release/libtch_svgd.so")
    try:
        import torch

        load(sys.argv[1])
    except (ImportError, OSError) as error:
        # PyTorch keeps the dynamic linker's reason apart.
        sys.exit(f"torch_ops.py: {error.__cause__ or error}")
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    labels = (inputs[:, 0] > inputs[:, 1]).long()
    layer = torch.nn.Linear(8, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    second_moment = torch.zeros(2)  # the optimizer's state, which the backward pass updates
    for step in range(101):
        # scale, decay, eps; 1 as gradient scale: the gradient as it comes; the bias keeps its true gradient
        outputs = torch.ops.svgd.linear(inputs, layer.weight, layer.bias, second_moment, 0.01, 0.9, 1e-6, 1.0, False)
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
