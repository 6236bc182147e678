[private]
default:
    @{{ just_executable() }} --list

# Find or fetch libtorch (once per user)
setup:
    python3 scripts/libtorch.py

# Profile, choose a split and run it, on this machine alone
demo: setup
    cargo run --release -- demo

# Run all tests
test: setup
    cargo test -p coprof-core -p coprof-run
    cargo test --profile checked -p coprof -p coprof-torch

# Check formatting and lints
check: setup
    cargo fmt --all --check
    cargo clippy --workspace --profile checked --all-targets -- -D warnings
    cargo clippy -p coprof --no-default-features --all-targets -- -D warnings

# Run the benchmarks
bench: setup
    cargo bench

# Build the API documentation
docs: setup
    cargo doc --workspace --no-deps --release
