//! Links libtorch so that nothing needs `LD_LIBRARY_PATH` to run: this crate's tests, and whatever takes the same arguments from
//! `DEP_COPROF_TORCH_…` in its own build script, since cargo hands none on.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // torch-sys gives no folder on Windows, where run paths do not exist either.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    // The real folder: an installed binary must outlive the `.libtorch` link of the repository.
    let Ok(real) = lib.canonicalize() else {
        println!("cargo::error=no libtorch in {}: run `python3 scripts/libtorch.py` first", lib.display());
        return;
    };
    link("RUN_PATH", &format!("-Wl,-rpath,{}", real.display()));

    let core = lib.join("libtorch_cpu.so");
    if core.is_file() {
        // Only an existing file: cargo takes a missing one for changed at every build.
        println!("cargo::rerun-if-changed={}", core.display());
    }
    if lib.join("libtorch_cuda.so").is_file() {
        // No symbol of it is called by name, so the linker would drop it, and CUDA with it.
        link("CUDA", "-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
}

fn link(name: &str, argument: &str) {
    println!("cargo::rustc-link-arg={argument}");
    println!("cargo::metadata={name}={argument}");
}
