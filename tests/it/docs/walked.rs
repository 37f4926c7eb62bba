//! Every line of every page that shows commands is run: by the walk of its page, by the story on a node, by another test, or by what
//! every change must pass.

use std::process::Command;

use super::{bare, blocks, clusters, pages, read, site};
use crate::support::repository;

/// How lines begin that the walks of pages leave to others. Those that need a node are run by `tests/e2e/story.sh`, those that build
/// and measure by `.ci/run`, the others by the tests of [`TESTS`]: each names the line as its page has it.
const ELSEWHERE: [&str; 7] = [
    "make ",
    "crictl ",
    "ctr ",
    "skopeo ",
    "kubectl -n etcdguardian port-forward ",
    "etcdguardian doctor --endpoints https://127.0.0.1:2379 ",
    "etcdguardian object restore settings --kind ConfigMap --namespace shop --deleted ",
];

/// Tests that run single lines of pages.
const TESTS: [&str; 4] = [
    "tests/it/demo.rs",
    "tests/it/dockerfile.rs",
    "tests/it/notebooks.rs",
    "tests/it/docs/clusters.rs",
];

/// Whether the walk of its page does not run a line.
pub fn is_run_elsewhere(page: &str, line: &str) -> bool {
    // The page about it has its own walk.
    let on_its_page = page == "docs/how-to/get-one-object-back.md";
    !on_its_page && ELSEWHERE.iter().any(|begin| line.starts_with(begin))
}

/// Lines that others run: the page, where only one is meant, and how they begin.
struct Elsewhere(Vec<(Option<String>, String)>);

impl Elsewhere {
    fn new() -> Self {
        let mut all = Vec::new();
        let mut of = |file: &str, call: &str| {
            let text = read(&repository(file));
            all.extend(text.split(call).skip(1).filter_map(page_and_words));
        };
        of("tests/e2e/story.sh", "$(page_line ");
        for file in TESTS {
            of(file, "documented(");
        }
        for line in read(&repository(".ci/run")).lines() {
            let words = line.trim_start().split(' ');
            let words = words.skip_while(|word| word.contains('=') && !word.contains('$'));
            let line = words.collect::<Vec<_>>().join(" ");
            if line.starts_with("make ") {
                all.push((None, line));
            }
        }
        Self(all)
    }

    fn runs(&self, page: &str, line: &str) -> bool {
        self.0.iter().any(|(of, words)| match of {
            Some(of) => of == page && format!("{line} ").starts_with(words.as_str()),
            // No word more or less.
            None => line == words,
        })
    }
}

/// What a call names: a page, and in quotes how its line begins.
fn page_and_words(call: &str) -> Option<(Option<String>, String)> {
    let call = call.trim_start();
    let (page, rest) = match call.strip_prefix('"') {
        Some(call) => call.split_once('"')?,
        None => call.split_once(' ')?,
    };
    let rest = rest.trim_start_matches([',', ' ', '\n']);
    let quote = rest.chars().next().filter(|first| "'\"".contains(*first))?;
    let (words, _) = rest[1..].split_once(quote)?;
    Some((Some(page.to_owned()), words.to_owned()))
}

/// Whether the walk of a page runs a line of it.
fn is_walked(page: &str, line: &str) -> bool {
    let whole = [
        "README.md",
        "README.zh-CN.md",
        "docs/tutorials/first-backup.md",
    ];
    let cluster = ["kubectl ", "helm "]
        .iter()
        .any(|what| line.starts_with(what));
    clusters::PAGES.contains(&page)
        || whole.contains(&page)
        || (cluster && clusters::SHARED.contains(&page))
        || (!cluster && site::PAGES.contains(&page))
}

#[test]
fn every_line_of_every_page_with_commands_is_run() {
    let elsewhere = Elsewhere::new();
    let (mut walked, mut others) = (0, 0);
    for page in pages() {
        let name = page.strip_prefix(repository("")).unwrap();
        let name = name.to_str().unwrap();
        for block in blocks(&page) {
            assert!(
                ["console", "sh"].contains(&block.language.as_str())
                    || !block.text.lines().any(|line| {
                        let line = line.trim_start_matches("$ ");
                        ["etcdguardian ", "kubectl ", "helm ", "make "]
                            .iter()
                            .any(|what| line.starts_with(what))
                    }),
                "{}: commands that are not marked as such",
                block.place
            );
            if !["console", "sh"].contains(&block.language.as_str()) {
                continue;
            }
            for line in block.text.replace("\\\n", " ").lines().map(bare) {
                let run = if is_run_elsewhere(name, line) {
                    others += 1;
                    // The two languages of the README have the same commands: a test of theirs holds them to it.
                    elsewhere.runs(&name.replace(".zh-CN", ""), line)
                } else {
                    walked += 1;
                    is_walked(name, line)
                };
                assert!(run, "{}: nobody runs `{line}`", block.place);
                let parsed = Command::new("bash").args(["-n", "-c", line]).output();
                assert!(parsed.unwrap().status.success(), "{}: {line}", block.place);
            }
        }
    }
    eprintln!("{walked} lines of commands are run by the walks of their pages, {others} by others");
    assert!(walked > 150 && others > 20, "{walked} and {others}");
}
