"""The package itself: what it says where it cannot work, its README, its examples and its types."""

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import tch_svgd

HERE = Path(__file__).parent
INSTALLED = Path(tch_svgd.__file__).parent


def imported(folder: Path) -> str:
    """What importing the package in this folder says last."""
    command = [sys.executable, "-c", "import tch_svgd"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
    assert result.returncode == 1, result.stdout
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(INSTALLED, tmp_path / "tch_svgd", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_another_pytorch_is_an_error_that_names_both(copied: Path) -> None:
    built = copied / "tch_svgd/_built.py"
    built.write_text(re.sub(r'TORCH = ".*"', 'TORCH = "1.2.3"', built.read_text()))
    here = torch.__version__.split("+")[0]
    assert (
        f"ImportError: tch_svgd is compiled for PyTorch 1.2.3, but PyTorch {here} is installed: python3 -m pip install"
        in imported(copied)
    )


@pytest.mark.parametrize("lost", ["_built.py", "_operators.abi3.so"])
def test_what_is_not_compiled_says_so(copied: Path, lost: str) -> None:
    (copied / "tch_svgd" / lost).unlink()
    assert "has no compiled operators: python3 -m pip install" in imported(copied)


def test_a_damaged_library_gives_the_linkers_reason(copied: Path) -> None:
    library = copied / "tch_svgd/_operators.abi3.so"
    library.write_text("no library")
    assert re.search(r"_operators.abi3.so cannot be loaded \(.*file too short.*\): python3 -m pip", imported(copied))


def test_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (HERE.parent / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


def test_examples_in_the_documentation_hold() -> None:
    attempted = 0
    for module in pkgutil.iter_modules([str(INSTALLED)]):
        if not module.name.startswith("_operators"):
            found = importlib.import_module(f"tch_svgd.{module.name}")
            result = doctest.testmod(found, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
            assert result.failed == 0
            attempted += result.attempted
    assert attempted > 10


def test_all_that_is_public_is_documented() -> None:
    for name in tch_svgd.__all__:
        public = getattr(tch_svgd, name)
        if isinstance(public, type | types.FunctionType):
            assert public.__doc__, name
    assert (INSTALLED / "py.typed").is_file()
