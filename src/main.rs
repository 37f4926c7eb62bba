//! The binary: hands its words to the CLI and its exit code to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    etcdguardian::cli::main()
}
