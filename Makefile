# `make test` and `make demo` obtain libtorch themselves; see scripts/libtorch.

.PHONY: libtorch test demo lint doc format

libtorch:
	scripts/libtorch

test: libtorch
	cargo test

# ResNet-20 with SGD and SVGD side by side, in about five minutes of computing on two cores.
demo: libtorch
	cargo run --release --example resnet20_cifar10 -- --optimizer sgd,svgd --steps 280 --eval-every 140 --out runs/demo

CPP = $(wildcard cpp/*.h cpp/*.cpp cpp/*/*.h cpp/*/*.cpp)

lint: libtorch
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	clang-format --dry-run --Werror $(CPP)
	shellcheck scripts/libtorch .ci/run

doc: libtorch
	RUSTDOCFLAGS="--deny warnings" cargo doc --no-deps
	LIBTORCH=/nonexistent RUSTDOCFLAGS="--deny warnings" cargo doc --no-deps --features doc-only --target-dir target/doc-only

format:
	cargo fmt
	clang-format -i $(CPP)
