# `make test` and `make demo` obtain libtorch themselves; see scripts/libtorch.

.PHONY: libtorch doctor test test-library test-python demo results bench lint doc format cuda check-kernels check-cuda sanitize fuzz

libtorch:
	scripts/libtorch

# Nothing is fetched or compiled. PROGRAM=target/release/mlp_mnist looks at a program as well.
doctor:
	@scripts/doctor $(PROGRAM)

test: libtorch
	cargo test

# What does not train whole programs: operators, layers, state, build, the crate that depends on ours.
LIBRARY_TESTS = hatted svgd tso_alra bng optim build cuda_graph instruction_sets threads
test-library: libtorch
	cargo test --package tch-svgd --lib $(LIBRARY_TESTS:%=--test %)

# The Python package, built and tested in a virtual environment with PyTorch: five gigabytes below target/.
test-python:
	scripts/test-python

# ResNet-20 with SGD and SVGD side by side, on the handwritten digits that the program carries: the paper's schedule in 280
# steps, two minutes on two idle cores. SGD has ten times the paper's rate, with which it comes nowhere in so few steps (13.6 %).
demo: libtorch
	cargo run --release --example resnet20_cifar10 -- --data digits --paper --budget 0.0056 --eval-every 70 --optimizer sgd,svgd --lr sgd=1 --out runs/demo --overwrite

# The paper's first table: seven optimizers, five seeds each; about ten minutes on two cores.
results: libtorch
	cargo run --release --bin mlp_mnist -- --paper --seeds 0..5 --threads 1 --resume \
		--optimizer sgd,momentum,rmsprop,adam,svgd,svgd-per-example,svgd-momentum --out runs/mlp_mnist

# Ratios to tch's own layers and optimizers, and to a copy of the same bytes: about half an hour on two cores.
bench: libtorch
	cargo bench
	@scripts/bench-table

# With our CUDA kernels, against a libtorch with CUDA: that of PyTorch in python3 (of the version that scripts/libtorch
# --version tells, and LIBTORCH_USE_PYTORCH=1, which goes before LIBTORCH), or the one in the folder LIBTORCH. nvcc is that of CUDA_HOME,
# CUDA_PATH or PATH, or what scripts/nvcc fetches; TORCH_CUDA_ARCH_LIST chooses the architectures.
cuda:
	@test -n "$(LIBTORCH)$(LIBTORCH_USE_PYTORCH)" || { version=$$(scripts/libtorch --version); echo "make cuda: set LIBTORCH_USE_PYTORCH=1 where python3 has PyTorch $$version with CUDA (pip install torch==$$version), or LIBTORCH to the folder of a libtorch $$version with CUDA" >&2; exit 1; }
	scripts/libtorch
	command -v nvcc >/dev/null || scripts/nvcc
	cargo build --package tch-svgd --release --features cuda --target-dir $(or $(CARGO_TARGET_DIR),target/cuda)

# Runs cuda/ on the CPU, and plants faults in it that must be found: four minutes of processor time.
check-kernels:
	scripts/check-kernels

# Compiles cuda/ without a GPU, and fails where a kernel spills registers.
check-cuda:
	scripts/check-cuda

# The tests of the operators with our C++ under AddressSanitizer and UndefinedBehaviorSanitizer, and three planted faults that must
# be found. A build of its own, in target/sanitize.
sanitize:
	scripts/sanitize

# Every parser of files under libFuzzer, an hour each: scripts/fuzz --seconds N takes less. Needs cargo-fuzz.
fuzz:
	scripts/fuzz

CPP = $(wildcard tests/counter/src/*.h tests/counter/src/*.cpp training/tests/programs/*.cpp $(foreach ending,h cpp inc cuh cu,$(foreach folder,cpp cpp/* cpp/*/* cuda cuda/* tests/emulation tests/emulation/* tests/emulation/*/* tests/emulation/*/*/*,$(folder)/*.$(ending))))

lint: libtorch
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	clang-format --dry-run --Werror $(CPP)
	shellcheck -x scripts/doctor scripts/test-python scripts/libtorch scripts/nvcc scripts/wheels.sh scripts/versions.sh scripts/texts scripts/with-tch scripts/check-cuda scripts/sanitize scripts/fuzz .ci/run

doc: libtorch
	RUSTDOCFLAGS="--deny warnings" cargo doc --package tch-svgd --no-deps
	LIBTORCH=/nonexistent RUSTDOCFLAGS="--deny warnings" cargo doc --package tch-svgd --no-deps --features doc-only --target-dir target/doc-only

format:
	cargo fmt
	clang-format -i $(CPP)
