"""The compiled operators, which belong to the release of PyTorch that they were compiled for."""

from __future__ import annotations

import importlib.machinery
import pathlib

import torch

_REINSTALL = "python3 -m pip install --force-reinstall --no-deps ./python, in a checkout of tch-svgd"


def load() -> str:
    """Registers ``torch.ops.svgd``, ``tso_alra`` and ``bng``, and returns the version; ImportError if that cannot be."""
    folder = pathlib.Path(__file__).parent
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    found = [folder / f"_operators{suffix}" for suffix in suffixes if (folder / f"_operators{suffix}").is_file()]
    try:
        from ._built import TORCH, VERSION
    except ImportError:
        found = []
    if not found:
        raise ImportError(f"tch_svgd in {folder} has no compiled operators: {_REINSTALL}")
    # libtorch's C++ interface changes from release to release: the library would fail with an undefined symbol.
    here = torch.__version__.split("+")[0]
    if here != TORCH:
        raise ImportError(
            f"tch_svgd is compiled for PyTorch {TORCH}, but PyTorch {here} is installed: {_REINSTALL}; or "
            f"python3 -m pip install torch=={TORCH}"
        )
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        # PyTorch keeps the dynamic linker's reason apart.
        raise ImportError(f"{found[0]} cannot be loaded ({error.__cause__ or error}): {_REINSTALL}") from error
    return VERSION
