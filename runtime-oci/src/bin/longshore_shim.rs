//! The shim as a program of its own, for embedders whose program cannot hand its arguments to
//! [`longshore_runtime_oci::shim::main`]; the tests are among them.

use std::process::ExitCode;

fn main() -> ExitCode {
    longshore_runtime_oci::shim::main(std::env::args_os().skip(2))
}
