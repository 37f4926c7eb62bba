//! The Dockerfile, as far as it can be held without a container engine: a linter that reads it as an engine would, its stages, its user;
//! and the image that is made without one.

use std::process::Command;

use crate::docs::{documented, typed};
use crate::support::{repository, tool};

/// The instructions and their arguments, by stage; comments are left out and continued lines joined.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = std::fs::read_to_string(repository("Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, arguments) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        let stage = stages.last_mut().expect("FROM comes first");
        stage.push((instruction.to_owned(), arguments.trim().to_owned()));
    }
    stages
}

#[test]
fn the_linter_has_nothing_to_say() {
    let output = Command::new(tool("hadolint"))
        .args(["--no-color", "--failure-threshold", "style"])
        .arg(repository("Dockerfile"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_last_stage_holds_the_binary_alone_and_an_unprivileged_user() {
    let stages = stages();
    let [build, last] = &stages[..] else {
        panic!("a stage that builds and one that is kept: {stages:?}");
    };
    let all = |stage: &[(String, String)], wanted: &str| -> Vec<String> {
        let found = stage
            .iter()
            .filter(|(instruction, _)| instruction == wanted);
        found.map(|(_, arguments)| arguments.clone()).collect()
    };
    let one = |wanted: &str| {
        let found = all(last, wanted);
        assert_eq!(found.len(), 1, "{wanted}: {found:?}");
        found[0].clone()
    };
    assert!(build[0].1.ends_with(" AS build"), "{build:?}");
    let from = one("FROM");
    assert!(
        from.contains("/distroless/") && from.ends_with(":nonroot"),
        "{from}"
    );
    assert_eq!(all(last, "RUN"), Vec::<String>::new(), "there is no shell");

    // The same user as in the chart, by number: Kubernetes cannot tell a name from root.
    let user = one("USER");
    let (id, group) = user.split_once(':').unwrap();
    assert!(id == group && id.parse::<u32>().unwrap() > 0, "{user}");
    let chart = repository("charts/etcdguardian/templates/deployment.yaml");
    let chart = std::fs::read_to_string(chart).unwrap();
    assert!(chart.contains(&format!("runAsUser: {id}\n")));

    // What is copied is there: from the repository, or made by the stage before.
    let made = all(build, "RUN").join("\n");
    let mut placed = Vec::new();
    for copy in all(last, "COPY") {
        let words: Vec<&str> = copy.split_whitespace().collect();
        match &words[..] {
            ["--from=build", source, target] => {
                assert!(made.contains(&format!(" {source}")), "{copy}: {made}");
                placed.push((*target).to_owned());
            }
            [source, _] => assert!(repository(source).exists(), "{copy}"),
            _ => panic!("{copy}"),
        }
    }
    assert_eq!(one("ENTRYPOINT"), format!("[\"{}\"]", placed[0]));

    // The toolchain and the profile are those of the manifest, whose lock holds.
    let manifest = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let toolchain = format!("rust:{}-slim-", version.unwrap());
    assert!(build[0].1.starts_with(&toolchain), "{build:?}");
    assert!(made.contains("--locked --profile dist"), "{made}");
    assert!(manifest.contains("[profile.dist]"));
    assert!(repository("Cargo.lock").exists());
}

/// The lines of the pages that make an image without an engine, with the binary that the tests are of: the archive has its name,
/// and in its one layer the binary.
#[test]
fn the_pages_make_an_image_without_an_engine() {
    for line in [
        documented("docs/how-to/install-the-chart.md", "make image "),
        documented("docs/how-to/install-offline.md", "make image "),
        documented("docs/tutorials/on-a-cluster.md", "make image "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for part in ["Makefile", "tools"] {
            std::os::unix::fs::symlink(repository(part), folder.path().join(part)).unwrap();
        }
        let made = typed(&line)
            .env("ETCDGUARDIAN", env!("CARGO_BIN_EXE_etcdguardian"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{line}: {said}");
        let name = line
            .split("IMG=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let read = |words: &str| {
            let ran = typed(words).current_dir(folder.path()).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{words}: {said}");
            String::from_utf8(ran.stdout).unwrap()
        };
        let manifest = read("tar -xOf etcdguardian.tar ./manifest.json");
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], name, "{line}");
        let layer = manifest[0]["Layers"][0].as_str().unwrap();
        let files = read(&format!("tar -xOf etcdguardian.tar ./{layer} | tar -tz"));
        let binary = "./usr/local/bin/etcdguardian";
        assert!(files.lines().any(|file| file == binary), "{files}");
    }
}
