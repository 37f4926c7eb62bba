//! A server process: its log in a file, killed by pid when dropped, its last lines printed when the test fails.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take to become ready; generous, because tests share few cores with builds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two questions of what is waited for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A loopback port that nobody listens on. Below the kernel's ephemeral range, so that no outgoing connection takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 100) * 120;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + (offset + step) % 12_000).expect("below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Asks until the answer is `Some`, for two minutes at most; `what` is named when it never comes. A dear question is asked
/// seldom: to ask takes a third of the time, and the other tests have the rest.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// As `until`, for what takes longer.
pub fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if let Some(answer) = ask() {
            return answer;
        }
        let pause = (2 * asked.elapsed()).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        assert!(
            start.elapsed() < patience,
            "{what}: not within {} s",
            patience.as_secs()
        );
        std::thread::sleep(pause);
    }
}

/// A running server.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both its outputs in `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("open the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until `ready` says so; fails at once, with the log, when the process ends before.
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let name = self.name.clone();
        until(&format!("{name} ready"), || {
            if let Some(status) = self.child.try_wait().expect("ask for the exit status") {
                panic!("{name} ended with {status}:\n{}", self.log_text());
            }
            ready().then_some(())
        });
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name, as `TERM` or `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .expect("run kill");
        assert!(
            sent.success(),
            "kill -{name} {} ({})",
            self.pid(),
            self.name
        );
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} ended"), || {
            self.child.try_wait().expect("ask for the exit status")
        })
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the last lines of {}:\n{tail}", self.name);
        }
    }
}
