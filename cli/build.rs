//! Links the program to a fixed place in memory, as Go's programs are, where that is known to work.
//!
//! It runs once for every pod, too, as its shim. Wherever the kernel puts it, each process would first correct some hundred
//! thousand addresses: milliseconds for each pod that is started, and megabytes that no two processes share. Stack, heap and libraries
//! are still where nobody can guess.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if (target("OS"), target("ENV")) == ("linux".to_owned(), "gnu".to_owned()) {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
