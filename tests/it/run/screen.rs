//! What `status` and its companions show a person: in colours on a terminal, plain in a pipe, again and again, in a browser.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::Site;
use crate::support::{Etcd, guardian_command, until};

/// What a command writes on a terminal, made by `script`.
fn on_a_terminal(words: &str) -> String {
    let shell = format!("{} {words}", env!("CARGO_BIN_EXE_etcdguardian"));
    let output = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_gets_colours_a_pipe_none_and_a_browser_the_page() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 50, 50);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let _run = site.start();
    site.wait_for_backups(&site.url(), 1);
    until("protected", || {
        (site.guardian(&["status"]).code == 0).then_some(())
    });
    let config = site.config().display().to_string();

    for words in ["status", "schedule list"] {
        let line = format!("--config {config} {words}");
        let shown = on_a_terminal(&line);
        assert!(shown.contains("\x1b[32m"), "{words}: {shown:?}");
        let plain = on_a_terminal(&format!("{line} | cat"));
        assert!(!plain.contains('\x1b'), "{words}: {plain:?}");
    }
    let listed = on_a_terminal(&format!("backup list --from {}", site.url()));
    assert!(listed.contains("\x1b[32mConsistent\x1b[0m"), "{listed:?}");
    // Of a backup by hand a terminal shows how far it is, and a pipe nothing until its end.
    etcd.fill("big/", 200, 30_000);
    let line = format!(
        "--config {config} --log error backup create --to {}",
        site.url()
    );
    let shown = on_a_terminal(&line);
    for words in ["snapshot", "store", "B/s"] {
        assert!(shown.contains(words), "{words}: {shown:?}");
    }
    let quiet = site.guardian(&["--log", "error", "backup", "create", "--to", &site.url()]);
    assert_eq!(quiet.stderr, "", "{}", quiet.stdout);

    let explained = on_a_terminal(&format!("--config {config} schedule explain main"));
    assert!(
        explained.contains("\x1b[1mdefault/main\x1b[0m"),
        "{explained:?}"
    );

    // Columns stand under each other, colours or not.
    let strip = |text: &str| -> Vec<String> {
        let mut plain = text.replace('\r', "");
        while let Some(start) = plain.find('\x1b') {
            let end = start + plain[start..].find('m').unwrap();
            plain.replace_range(start..=end, "");
        }
        plain.lines().map(str::to_owned).collect()
    };
    let rows = strip(&on_a_terminal(&format!("--config {config} schedule list")));
    let column = rows[0].find("PROTECTED").unwrap();
    assert!(rows[1][column..].starts_with("yes"), "{rows:?}");

    let mut command = guardian_command();
    command.args(["status", "--watch", "1", "--config", &config]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut seen = 0;
    for line in lines.map(Result::unwrap) {
        assert!(!line.contains('\x1b'), "{line:?}");
        seen += usize::from(line.starts_with("test: Protected"));
        if seen == 2 {
            break;
        }
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(seen, 2, "it looks again");

    let (browser, called) = (site.path("browser"), site.path("called"));
    let script = format!("#!/bin/sh\nprintf %s \"$1\" > {}\n", called.display());
    std::fs::write(&browser, script).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = guardian_command();
    command.args(["status", "--open", "--config", &config]);
    let output = command.env("BROWSER", &browser).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let url = String::from_utf8(output.stdout).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    until("the browser is called", || {
        (std::fs::read_to_string(&called).ok()? == url.trim()).then_some(())
    });
}

#[test]
fn no_page_is_opened_where_nobody_serves_one() {
    let etcd = Etcd::start("3.6");
    let site = Site::new(&etcd, "");
    let ran = site.guardian(&["status", "--open"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("etcdguardian run"), "{}", ran.stderr);
}
