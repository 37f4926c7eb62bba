//! The built `etcdguardian`: run to its end, or as a server.

use std::path::Path;
use std::process::Command;

use super::Process;

/// How a run ended.
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Words.
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("run the command");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What it printed, when it ended with 0; fails with its words otherwise.
    pub fn ok(self) -> String {
        self.code(0).stdout
    }

    /// Itself, when it ended with this code.
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code, expected,
            "stderr: {}\nstdout: {}",
            self.stderr, self.stdout
        );
        self
    }

    /// What it printed as JSON, when it ended with 0.
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

/// The binary as a command: no colours, no backtraces, no proxies, no cloud credentials of the machine.
pub fn guardian_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdguardian"));
    command.env("NO_COLOR", "1").env("RUST_LIB_BACKTRACE", "0");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_lowercase();
        if text.starts_with("aws_") || text.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs the binary with these words to its end.
pub fn guardian(args: &[&str]) -> Ran {
    Ran::of(guardian_command().args(args))
}

/// Starts the binary with these words in the background, its outputs in `log`; a test waits with `wait_ready`.
pub fn guardian_process(args: &[&str], log: &Path) -> Process {
    Process::start("etcdguardian", guardian_command().args(args), log)
}
