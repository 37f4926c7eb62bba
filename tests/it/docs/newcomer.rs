//! Somebody new walks the README from top to bottom: a backup, the loop, a broken etcd, its alert, a restore that etcd goes on from.

use std::process::Command;

use tempfile::TempDir;

use super::walked::is_run_elsewhere;
use super::{bare, blocks, typed, words};
use crate::support::{
    Etcd, Process, Ran, free_port, guardian_command, repository, tool, until_within,
};

/// How long the README promises that an alert takes, and what comes before it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(150);

struct Newcomer {
    etcd: Etcd,
    folder: TempDir,
    page: u16,
    jobs: Vec<Process>,
}

impl Newcomer {
    /// A line of the README with the places of this test in it.
    fn here(&self, line: &str) -> String {
        line.replace(
            "/tmp/etcdguardian",
            &self.folder.path().display().to_string(),
        )
        .replace("http://127.0.0.1:2379", &self.etcd.endpoint())
        .replace("127.0.0.1:9180", &format!("127.0.0.1:{}", self.page))
    }

    fn guardian(&self, line: &str) -> Command {
        let mut command = guardian_command();
        command
            .args(words(line.trim_start_matches("etcdguardian ")))
            .current_dir(self.folder.path())
            .env("ETCDGUARDIAN_CONFIG", "examples/guardian.yaml")
            .env("BROWSER", "true");
        command
    }

    fn run(&self, line: &str) -> Ran {
        let output = self.guardian(line).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What a person sees, without the colours.
    fn on_a_terminal(&self, verb: &str) -> String {
        let plain = self.guardian(verb);
        let shell = format!("{} {verb}", plain.get_program().display());
        let mut command = Command::new("script");
        command.args(["-qec", &shell, "/dev/null"]);
        command.current_dir(self.folder.path());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).replace('\r', "")
    }

    /// The etcd that was restored takes the place of the one that is gone.
    fn boot(&mut self, data: &str) {
        let client = self.etcd.endpoint();
        let mut command = Command::new(tool("etcd-3.6"));
        command
            .args(["--data-dir", data, "--log-level", "error"])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args([
                "--listen-peer-urls",
                &format!("http://127.0.0.1:{}", free_port()),
            ]);
        let log = self.folder.path().join("again.log");
        self.jobs.push(Process::start("etcd", &mut command, &log));
    }

    fn line(&mut self, line: &str) {
        let line = self.here(line);
        if line == "kill %1" {
            self.etcd.process(0).kill();
            let told = until_within(PATIENCE, "an alert", || {
                let status = self.run("etcdguardian status");
                status.stdout.contains("alert (").then_some(status.stdout)
            });
            assert!(told.contains("does not answer"), "{told}");
            assert!(told.contains("etcdguardian doctor"), "what to type: {told}");
            // What a terminal shows then is what the README shows, at another time.
            let blocks = blocks(&repository("README.md"));
            let mut shown = blocks.iter().filter(|one| one.text.contains("alert ("));
            let shown = &shown.next().unwrap().text;
            assert_eq!(timeless(&self.on_a_terminal("status")), timeless(shown));
        } else if line == "etcdguardian --log error run &" {
            let mut command = self.guardian(line.trim_end_matches(" &"));
            let log = self.folder.path().join("run.log");
            self.jobs.push(Process::start("run", &mut command, &log));
            until_within(PATIENCE, "protected", || {
                (self.run("etcdguardian status").code == 0).then_some(())
            });
        } else if let Some(rest) = line.split_once("etcd-3.6 --data-dir ") {
            let data = rest.1.split(' ').next().unwrap().to_owned();
            // The first one is there already.
            if data.ends_with("again") {
                self.boot(&data);
                until_within(PATIENCE, "the end of the alert", || {
                    let status = self.run("etcdguardian status");
                    let over = status.code == 0 && !status.stdout.contains("alert (");
                    over.then_some(())
                });
            }
        } else if line.starts_with("etcdguardian ") {
            let ran = self.run(&line);
            assert_eq!(ran.code, 0, "{line}: {}{}", ran.stdout, ran.stderr);
        } else {
            let ran = typed(&line).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{line}: {said}");
        }
    }
}

/// The lines of a screen, every length of time in them and the columns' widths left out.
fn timeless(screen: &str) -> Vec<String> {
    let is_time = |word: &&str| {
        let digits = word.trim_end_matches(|unit| "smhd,".contains(unit));
        // What is less than a second old is `now`.
        let when = ["ago", "now", "in"].contains(&word.trim_end_matches([')', ':']));
        when || digits.len() < word.len() && digits.chars().all(|one| one.is_ascii_digit())
    };
    let words = |line: &str| {
        let words = line.split_whitespace().filter(|word| !is_time(word));
        words.collect::<Vec<_>>().join(" ")
    };
    screen
        .lines()
        .map(words)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_readme_is_walked_by_somebody_new() {
    let etcd = Etcd::start("3.6");
    etcd.fill("/registry/configmaps/default/k", 60, 600);
    let mut newcomer = Newcomer {
        etcd,
        folder: tempfile::tempdir().unwrap(),
        page: free_port(),
        jobs: Vec::new(),
    };
    for file in ["examples/guardian.yaml", "examples/manifests/main.yaml"] {
        let text = newcomer.here(&std::fs::read_to_string(repository(file)).unwrap());
        let place = newcomer.folder.path().join(file);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
    }
    let revision = newcomer.etcd.revision();
    let mut walked = 0;
    for block in blocks(&repository("README.md")) {
        if block.language != "console" {
            continue;
        }
        for line in block.text.lines() {
            assert!(line.starts_with("$ "), "{line}");
            if !is_run_elsewhere("README.md", bare(line)) {
                newcomer.line(bare(line));
                walked += 1;
            }
        }
    }
    assert!(walked >= 12, "{walked}");
    // etcd goes on from what was restored.
    let output = newcomer
        .etcd
        .ctl_command()
        .args([
            "get",
            "/registry/configmaps/",
            "--prefix",
            "--count-only",
            "-w",
            "fields",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("\"Count\" : 60"),
        "{said} (revision {revision})"
    );
}
