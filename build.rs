//! Links libtorch as the crate that computes with it says.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["RUN_PATH", "CUDA"] {
        if let Ok(argument) = env::var(format!("DEP_COPROF_TORCH_{name}")) {
            println!("cargo::rustc-link-arg={argument}");
        }
    }
}
