//! The documentation is true: the binary parses every command in it, reads every YAML document, every link leads somewhere,
//! and the tutorial runs from top to bottom.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use etcdguardian::api::{parse_config, parse_resources};
use etcdguardian::cli::Cli;
use tempfile::TempDir;

use crate::support::{Etcd, repository};

mod clusters;
mod newcomer;
mod site;
mod walked;

/// A fenced block: its language, its lines, where it begins.
struct Block {
    language: String,
    text: String,
    place: String,
}

/// Every Markdown page of the tree that people read.
fn pages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut folders = vec![
        repository("docs"),
        repository("models"),
        repository("notebooks"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    for name in [
        "README.md",
        "README.zh-CN.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        found.push(repository(name));
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The fenced blocks of a page, without the indentation of the fence.
fn blocks(page: &Path) -> Vec<Block> {
    let text = read(page);
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            if let Some((indent, block)) = &mut open {
                block.text += line.get(*indent..).unwrap_or_default();
                block.text.push('\n');
            }
            continue;
        };
        open = match open.take() {
            Some((_, block)) => {
                found.push(block);
                None
            }
            None => Some((
                line.len() - line.trim_start().len(),
                Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    place: format!("{}:{}", page.display(), number + 1),
                },
            )),
        };
    }
    assert!(open.is_none(), "{}: a fence is not closed", page.display());
    found
}

/// The line of a page that begins with these words, as its reader types it, for a test elsewhere that runs it.
pub fn documented(page: &str, begins: &str) -> String {
    let all = blocks(&repository(page));
    let mut lines = all.iter().flat_map(|block| block.text.lines());
    let found = lines.find_map(|line| {
        let line = bare(line);
        line.starts_with(begins).then(|| line.to_owned())
    });
    found.unwrap_or_else(|| panic!("{page} has no line that begins with '{begins}'"))
}

/// A shell line without its prompt and what is remarked about it.
fn bare(line: &str) -> &str {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    line.split("  #").next().unwrap_or_default().trim_end()
}

/// A line of the documentation, typed in this repository.
pub fn typed(line: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]);
    // A `make` that runs these tests has nothing to say to this one.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        command.env_remove(name);
    }
    command.current_dir(repository(""));
    command
}

/// The words of a shell line up to a pipe, a comment or a redirection; quotes only group.
fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(mark), letter) if letter == mark => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | '#' | '>' | ';' | '&') => break,
            (None, ' ') if !word.is_empty() => found.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            (None, letter) => word.push(letter),
        }
    }
    found.extend((!word.is_empty()).then_some(word));
    found
}

/// Whether the binary takes these words; `lenient` allows required ones to be absent, as prose names verbs alone.
fn parse(line: &str, lenient: bool, place: &str) {
    let words = words(line);
    if words.iter().any(|word| word.contains('…')) {
        return;
    }
    if let Err(error) = Cli::command().try_get_matches_from(&words) {
        use clap::error::ErrorKind;
        let fine = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => lenient,
            _ => false,
        };
        assert!(fine, "{place}: `{line}`: {error}");
    }
}

#[test]
fn the_binary_takes_every_command() {
    let mut checked = 0;
    for page in pages() {
        for block in blocks(&page) {
            let joined = block.text.replace("\\\n", " ");
            for line in joined.lines() {
                let line = line.trim_start().trim_start_matches("$ ").trim();
                let line = match line.split_once(' ') {
                    Some((set, rest)) if set.contains('=') => rest,
                    _ => line,
                };
                if line.starts_with("etcdguardian ") {
                    parse(line, false, &block.place);
                    checked += 1;
                }
            }
        }
        // In prose, outside of fences, between backticks.
        let mut fenced = false;
        for (number, line) in read(&page).lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            for span in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
                let place = format!("{}:{}", page.display(), number + 1);
                if span.starts_with("etcdguardian ") && !span.contains("VERB") {
                    parse(span, true, &place);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 60, "only {checked} commands were found");
}

#[test]
fn the_binary_reads_every_document() {
    let mut checked = 0;
    for page in pages() {
        for block in blocks(&page).into_iter().filter(|b| b.language == "yaml") {
            if block.text.contains("kind: EtcdGuardianConfig") {
                parse_config(&block.text, &block.place).unwrap_or_else(|error| panic!("{error}"));
                checked += 1;
            } else if block.text.contains("kind: Etcd") {
                parse_resources(&block.text, &block.place, None)
                    .unwrap_or_else(|error| panic!("{error:?}"));
                checked += 1;
            }
        }
    }
    assert!(checked >= 5, "only {checked} documents were found");
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let target = link.0.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target} is not there", page.display());
        }
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let word = |text: &str| -> Vec<String> {
        let parts = text.split("etcdguardian_").skip(1);
        let name = |rest: &str| -> String {
            let letters = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_');
            letters.collect()
        };
        parts
            .map(name)
            .filter(|name| !name.is_empty() && !name.ends_with('_'))
            .collect()
    };
    let known = word(&read(&repository("docs/reference/metrics.md")));
    assert!(known.len() > 20, "{known:?}");
    for page in pages() {
        for name in word(&read(&page)) {
            assert!(
                known.contains(&name),
                "{}: etcdguardian_{name} is not in the reference",
                page.display()
            );
        }
    }
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read(&repository("Makefile"));
    for page in pages() {
        for span in read(&page).split('`').skip(1).step_by(2) {
            if let Some(target) = span.strip_prefix("make ") {
                let target = target.split(' ').next().unwrap();
                assert!(
                    makefile.contains(&format!("\n{target}: ")),
                    "{}: make {target}",
                    page.display()
                );
            }
        }
    }
    for target in [
        "demo",
        "test",
        "build",
        "run",
        "install",
        "deploy",
        "manifests",
        "generate",
        "docker-build",
        "lint",
        "bench",
        "e2e",
        "clean",
        "help",
    ] {
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
}

/// The lines that a README shows are the ones that the binary prints: the same labels in the same order.
#[test]
fn the_readme_shows_what_the_binary_says_and_both_say_the_same() {
    let etcd = Etcd::start("3.6");
    etcd.fill("/registry/configmaps/default/k", 60, 600);
    let folder = TempDir::new().unwrap();
    let labels = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split("  ").next().unwrap_or_default().to_owned())
            .collect()
    };
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(|name| {
        let found: Vec<Block> = blocks(&repository(name));
        found
    });
    let of = |found: &[Block], language: &str| -> Vec<String> {
        let wanted = found.iter().filter(|block| block.language == language);
        wanted.map(|block| block.text.clone()).collect()
    };
    assert_eq!(of(&english, "text"), of(&chinese, "text"));
    let commands = |found: &[Block]| -> Vec<String> {
        let all = of(found, "console").concat();
        let lines = all
            .lines()
            .map(|line| line.split("  #").next().unwrap().trim().to_owned());
        lines.collect()
    };
    assert_eq!(commands(&english), commands(&chinese));

    let shown = of(&english, "text");
    let commands = commands(&english);
    let run = |verb: &str| {
        let line = commands.iter().find(|line| line.contains(verb)).unwrap();
        let line = line
            .replace("http://127.0.0.1:2379", &etcd.endpoint())
            .replace(
                "/tmp/etcdguardian/backups",
                &folder.path().join("store").display().to_string(),
            )
            .replace(
                "/tmp/etcdguardian/restored",
                &folder.path().join("data").display().to_string(),
            );
        let words = words(line.trim_start_matches("$ etcdguardian "));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = crate::support::guardian(&words);
        assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
        ran.stdout
    };
    assert_eq!(labels(&run(" backup create ")), labels(&shown[0]));
    let restored = labels(&run(" restore --from "));
    assert!(restored.starts_with(&labels(&shown[1])), "{restored:?}");
}

/// Runs the tutorial's `console` blocks in one shell, then boots etcd on what it restored.
#[test]
fn the_tutorial_runs_from_top_to_bottom() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 300, 64);
    let mut script = String::from("set -euo pipefail\n");
    for block in blocks(&repository("docs/tutorials/first-backup.md")) {
        if block.language != "console" {
            continue;
        }
        for line in block.text.lines() {
            let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{line}"));
            if command.starts_with("export ETCD=") {
                script += &format!("export ETCD={}\n", etcd.endpoint());
            } else {
                script += &format!("{command}\n");
            }
        }
    }
    let folder = TempDir::new().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_etcdguardian"));
    let path = format!(
        "{}:{}",
        built.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{script}\n{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(String::from_utf8_lossy(&ran.stdout).contains("Consistent"));
    let restored = Etcd::of("3.6")
        .data_dir(&folder.path().join("restored"))
        .start();
    let revision = etcd.revision();
    assert_eq!(restored.hash_kv(revision), etcd.hash_kv(revision));
}
