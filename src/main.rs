//! The `coprof` program.

fn main() {}
