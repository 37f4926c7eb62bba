//! The list of rooms in src/lib.rs, held: the arrows between them, the purity of those that decide, the length of a file, and
//! the generated files. A rule has no exceptions: change the code, or the rule for all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{guardian, repository};

/// Rooms that know no clock, network, file or environment.
const PURE_ROOMS: [&str; 4] = ["schedule", "seal", "snapshot", "api"];

/// What a pure file may not name.
const EFFECTS: [&str; 12] = [
    "tokio::",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "reqwest",
    "object_store",
    "kube::Client",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Utc::now",
];

/// Lines a file may have.
const LONGEST: usize = 450;

/// The rooms from the outermost in, as the table in src/lib.rs lists them.
fn rooms() -> Vec<String> {
    let text = std::fs::read_to_string(repository("src/lib.rs")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Every Rust file below a folder, with its text.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no Rust files");
    files
}

/// The room a file of src/ belongs to; `None` for lib.rs and main.rs.
fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(repository("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.trim_end_matches(".rs");
    (name != "lib" && name != "main").then(|| name.to_owned())
}

/// The text without its tests and comments: what the product does.
fn product_code(path: &Path, text: &str) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    if name == "tests.rs" || path.components().any(|part| part.as_os_str() == "tests") {
        return String::new();
    }
    // A `#[cfg(test)] mod tests;` in the head of a file ends nothing; an inline module is the end of its file.
    let mut lines = Vec::new();
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        if line.trim() == "#[cfg(test)]" {
            if rest
                .peek()
                .is_some_and(|next| next.trim_end().ends_with('{'))
            {
                break;
            }
            rest.next();
        } else if !line.trim_start().starts_with("//") {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What a text names of the crate's top level: `crate::x`, and each of `crate::{x, y::z}`.
fn crate_names(text: &str) -> BTreeSet<&str> {
    let word = |text: &'_ str| {
        text.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    let mut names = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        let rest = &text[at + found.len()..];
        if line.contains("//") {
            continue;
        }
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(&rest[..word(rest)]);
            continue;
        };
        let (mut depth, mut first) = (0, true);
        for (offset, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                _ if first && !character.is_whitespace() => {
                    names.insert(&group[offset..offset + word(&group[offset..])]);
                    first = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn names_of_the_crate_are_found_however_they_are_written() {
    let text = "use crate::api::X;\nuse crate::{seal::{A, B},\n    etcd};\n// crate::cli\nlet a = crate::verify();";
    let names: Vec<&str> = crate_names(text).into_iter().collect();
    assert_eq!(names, ["api", "etcd", "seal", "verify"]);
}

#[test]
fn every_module_is_a_room_of_the_list() {
    let listed: BTreeSet<String> = rooms().into_iter().collect();
    let present: BTreeSet<String> = rust_files("src")
        .iter()
        .filter_map(|(path, _)| room_of(path))
        .collect();
    assert_eq!(listed, present);
}

#[test]
fn a_room_uses_those_below_it_never_those_above() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src") {
        let Some(room) = room_of(&path) else { continue };
        let place = rooms.iter().position(|name| *name == room).unwrap();
        let used = crate_names(&text);
        for above in &rooms[..place] {
            if used.contains(above.as_str()) {
                wrong.push(format!("{}: {room} uses {above}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_decides_touches_nothing() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src") {
        let plans = path.file_name().is_some_and(|name| name == "plan.rs");
        let pure = room_of(&path).is_some_and(|room| PURE_ROOMS.contains(&room.as_str()));
        if !plans && !pure {
            continue;
        }
        let code = product_code(&path, &text);
        for effect in EFFECTS {
            if code.contains(effect) {
                wrong.push(format!("{} names {effect}", path.display()));
            }
        }
        if plans && (code.contains("async ") || code.contains(".await")) {
            wrong.push(format!("{} is asynchronous", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src").into_iter().chain(rust_files("tests")) {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not say what it is for", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_generated_resource_definitions_are_in_step() {
    for kind in ["etcdbackups", "etcdbackupschedules", "etcdrestores"] {
        let generated = guardian(&["crd", kind]).ok();
        let file = format!("etcdguardian.io_{kind}.yaml");
        for folder in ["crds", "charts/etcdguardian/files/crds"] {
            let kept = std::fs::read_to_string(repository(folder).join(&file)).unwrap();
            assert!(
                kept == generated,
                "{folder}/{file} is old: run `make generate`"
            );
        }
    }
}
