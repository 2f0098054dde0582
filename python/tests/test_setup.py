"""How the operators are compiled: setup.py's decisions, without compiling."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.cpp_extension

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "python/setup.py"), run_name="setup")


def test_every_operator_and_loop_of_the_table_is_compiled(setup: dict[str, Any]) -> None:
    options = setup["options"]()
    compiled = set(options["ext_modules"][0].sources)
    compiled |= {source for _, library in options["libraries"] for source in library["sources"]}
    there = {"../" + str(path.relative_to(ROOT)) for path in (ROOT / "cpp").rglob("*.cpp")}
    # Those of cxx, which Python does without.
    assert there - compiled == {"../cpp/bridge.cpp", "../cpp/optim/steps.cpp"}
    assert compiled <= there


def test_the_kernels_are_compiled_where_they_are_asked_for(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.version.cuda is None:
        pytest.skip("this PyTorch is one without CUDA")
    monkeypatch.setenv("TCH_SVGD_CUDA", "1")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "")
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", None)
    with pytest.raises(SystemExit, match="no nvcc on PATH and no CUDA_HOME: `scripts/nvcc`"):
        setup["options"]()
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", "/nonexistent")
    sources = set(setup["options"]()["ext_modules"][0].sources)
    kernels = {"../" + str(path.relative_to(ROOT)) for path in ROOT.glob("cuda/*/*.cu")}
    assert kernels <= sources and "../cuda/svgd/second_moment.cpp" in sources
    assert "../cuda/graph.cpp" not in sources
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == setup["default_architectures"]() == "8.0;9.0+PTX"


def test_kernels_for_a_pytorch_without_cuda_are_refused(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCH_SVGD_CUDA", "1")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(SystemExit, match="TCH_SVGD_CUDA is set, but PyTorch .* is one without CUDA"):
        setup["options"]()


def test_the_wheel_wants_the_pytorch_that_it_is_compiled_for(setup: dict[str, Any]) -> None:
    assert setup["options"]()["install_requires"] == [f"torch=={torch.__version__.split('+')[0]}"]


def test_a_pytorch_that_was_not_tried_is_refused(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "1.2.3+cpu")
    monkeypatch.delenv("LIBTORCH_BYPASS_VERSION_CHECK", raising=False)
    with pytest.raises(SystemExit, match=r"PyTorch 1.2.3 was not tried: 2.13.0, .* were; `pip install torch==2.13.0`"):
        setup["options"]()
    monkeypatch.setenv("LIBTORCH_BYPASS_VERSION_CHECK", "1")
    assert "-std=c++20" in setup["options"]()["ext_modules"][0].extra_compile_args["cxx"]


def test_without_pytorch_the_error_says_what_to_install(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"there is no PyTorch in .*python \(ModuleNotFoundError: .*`pip install torch` first"):
        setup["options"]()


def test_versions_are_those_of_the_crate(setup: dict[str, Any]) -> None:
    assert f'version = "{setup["crate_version"]()}"' in (ROOT / "Cargo.toml").read_text()
