"""Compiles the operators of cpp/ for the PyTorch that is installed.

TCH_SVGD_CUDA=1 compiles the kernels of cuda/ as well, for which PyTorch must be one with CUDA and nvcc at hand (CUDA_HOME);
without, CUDA tensors work by PyTorch's own operators. LIBTORCH_BYPASS_VERSION_CHECK=1 takes a PyTorch that was not tried.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
# A source archive has with it what is the crate's.
OF_THE_CRATE = ["cpp", "cuda", "build/cuda.rs", "build/sources.txt", "build/versions.txt", "Cargo.toml"]
ROOT = HERE if (HERE / "Cargo.toml").is_file() else HERE.parent


def import_torch():
    """The PyTorch to compile for: that of this Python, in whatever folder pip lets this program see."""
    try:
        import torch
    except ImportError:
        # pip hides what is installed from a build. -E: without the variables by which it does.
        asked = [sys.executable, "-E", "-c", "import json, sys, torch; print(json.dumps(sys.path))"]
        answer = subprocess.run(asked, capture_output=True, text=True, cwd=HERE)
        if answer.returncode:
            reason = (answer.stderr.strip().splitlines() or ["no reason was given"])[-1]
            sys.exit(
                f"tch-svgd: there is no PyTorch in {sys.executable} ({reason}): the operators are compiled for the one that "
                "is installed; `pip install torch` first. Where the installer builds in an environment of its own (uv, "
                "poetry, build), install with --no-build-isolation"
            )
        # Behind what is there: the setuptools at work stays the one that pip has fetched.
        sys.path.extend(folder for folder in json.loads(answer.stdout) if folder and folder not in sys.path)
        import torch
    return torch


def release(torch):
    """Its version as a wheel that needs it names it: 2.13.0 of 2.13.0+cu130."""
    return torch.__version__.split("+")[0]


def cpp_standard(version):
    """That of the headers of this PyTorch, as build/versions.txt has it."""
    text = (ROOT / "build/versions.txt").read_text()
    known = dict(re.findall(r"^tch \S+ libtorch (\S+) c\+\+ (\d+)", text, re.MULTILINE))
    if version in known:
        return known[version]
    if os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        return max(known.values())
    sys.exit(
        f"tch-svgd: PyTorch {version} was not tried: {', '.join(known)} were; `pip install torch=={next(iter(known))}`, or "
        "compile for yours all the same with LIBTORCH_BYPASS_VERSION_CHECK=1"
    )


def crate_version():
    package = (ROOT / "Cargo.toml").read_text().split("[package]", 1)[1]
    return re.search(r'^version = "(.+)"', package, re.MULTILINE)[1]


def default_architectures():
    """Those of the crate."""
    return re.search(r'DEFAULT_ARCHITECTURES: &str = "(.+)"', (ROOT / "build/cuda.rs").read_text())[1]


class Sources:
    """What build/sources.txt says is to be compiled."""

    def __init__(self):
        lines = (ROOT / "build/sources.txt").read_text().splitlines()
        self.lines = [line.split() for line in lines if line.strip() and not line.startswith("#")]

    def of(self, *groups):
        # Relative, as setuptools wants them: ../cpp/... in a checkout.
        return [(os.path.relpath(ROOT / path, HERE), flags) for group, path, *flags in self.lines if group in groups]

    def flags(self, group):
        return [flag for word, name, *flags in self.lines if (word, name) == ("flags", group) for flag in flags]


def options():
    torch = import_torch()
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

    version = release(torch)
    standard = f"-std=c++{cpp_standard(version)}"
    with_cuda = os.environ.get("TCH_SVGD_CUDA", "0") not in ("", "0")
    if with_cuda and torch.version.cuda is None:
        sys.exit(
            f"tch-svgd: TCH_SVGD_CUDA is set, but PyTorch {torch.__version__} is one without CUDA; unset it, or "
            "install a PyTorch with CUDA"
        )
    if with_cuda and CUDA_HOME is None:
        sys.exit(
            "tch-svgd: TCH_SVGD_CUDA is set, but there is no nvcc on PATH and no CUDA_HOME: `scripts/nvcc` in a checkout of "
            f"tch-svgd fetches one, then CUDA_HOME={ROOT}/.cuda"
        )
    sources = Sources()
    groups = ["operators", "cuda-operators", "kernels"] if with_cuda else ["operators"]
    compile_args = {"cxx": [standard, "-O3", "-g0"], "nvcc": [standard, "-O3"]}
    link_args = []
    # at::parallel_for is serial unless OpenMP is on where it is compiled. Apple's compiler has none.
    if sys.platform == "linux":
        compile_args["cxx"].append("-fopenmp")
        link_args.append("-fopenmp")
    if with_cuda:
        # PyTorch's default is the GPU of this machine, which may have none.
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", default_architectures())
        compile_args["cxx"].append("-DTCH_SVGD_CUDA")
    make = CUDAExtension if with_cuda else CppExtension
    operators = make(
        "tch_svgd._operators",
        [path for path, _ in sources.of(*groups)],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        # Of Python it calls nothing: one wheel for all its versions.
        py_limited_api=True,
    )
    loops = ["loops", "loops-x86_64"] if platform.machine() in ("x86_64", "AMD64") else ["loops"]
    libraries = [
        (
            "tch_svgd_" + pathlib.Path(path).stem,
            {"sources": [path], "cflags": [standard, "-O3", "-g0", "-fPIC", *sources.flags("loops"), *flags]},
        )
        for path, flags in sources.of(*loops)
    ]

    class Build(build_py):
        """Leaves beside the package what the operators are compiled for."""

        def run(self):
            if not self.editable_mode:  # what an older build has left would be packed
                shutil.rmtree(pathlib.Path(self.build_lib) / "tch_svgd", ignore_errors=True)
            super().run()
            folder = HERE / "src/tch_svgd" if self.editable_mode else pathlib.Path(self.build_lib) / "tch_svgd"
            folder.mkdir(parents=True, exist_ok=True)
            text = f'# Written by setup.py.\nVERSION = "{crate_version()}"\nTORCH = "{version}"\n'
            (folder / "_built.py").write_text(text)

    class Archive(sdist):
        """With what is the crate's."""

        def make_release_tree(self, base_dir, files):
            # Not what is beside this folder, which setuptools would put beside the archive's.
            super().make_release_tree(base_dir, [file for file in files if not file.startswith("..")])
            for name in OF_THE_CRATE:
                source, copy = ROOT / name, pathlib.Path(base_dir) / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)

    return {
        "install_requires": [f"torch=={version}"],
        "ext_modules": [operators],
        "libraries": libraries,
        "cmdclass": {"build_ext": BuildExtension, "build_py": Build, "sdist": Archive},
        "options": {
            # Objects for another PyTorch are no use.
            "build": {"build_base": f"build/torch-{torch.__version__}{'-kernels' * with_cuda}"},
            "build_clib": {"force": "1"},
            "bdist_wheel": {"py_limited_api": "cp310"},
        },
    }


if __name__ == "__main__":
    os.chdir(HERE)
    setup(version=crate_version(), **options())
