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
    cargo test --release

# Check formatting and lints
check: setup
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings

# Run the benchmarks
bench: setup
    cargo bench

# Build the API documentation
docs: setup
    cargo doc --no-deps --release
