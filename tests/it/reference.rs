//! The parts of the reference that are generated from the code: every field of the resources and of the config file, every verb
//! and flag. `GENERATE=1 cargo test --test it reference::` writes them anew.

use std::fmt::Write;

use clap::CommandFactory;
use etcdguardian::api::{EtcdBackup, EtcdBackupSchedule, EtcdGuardianConfig, EtcdRestore};
use etcdguardian::cli::Cli;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::support::repository;

const MADE: &str = "Generated from the code by `make reference`; a test compares it.\n";

/// Compares a page with what the code says, or writes it.
fn page(path: &str, text: &str) {
    let file = repository(path);
    if std::env::var_os("GENERATE").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).find(|(a, b)| a != b);
    assert!(
        written == text,
        "{path} is old, run `make reference`: {differs:?}"
    );
}

/// One line of a table: no line end, no bar.
fn cell(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.replace('|', "\\|")
}

/// The schema itself, where an optional one is written as one of two.
fn solid(schema: &Value) -> &Value {
    let options = schema["anyOf"].as_array().into_iter().flatten();
    let mut solid = options.filter(|option| option["type"] != "null");
    solid.next().unwrap_or(schema)
}

fn kind_of(schema: &Value) -> String {
    let choices: Vec<&str> = schema["enum"]
        .as_array()
        .into_iter()
        .chain(schema["oneOf"].as_array())
        .flatten()
        .filter_map(|one| {
            one.as_str()
                .or(one["const"].as_str())
                .or(one["enum"][0].as_str())
        })
        .collect();
    if !choices.is_empty() {
        return choices.join(", ");
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("any")
            .to_owned(),
        _ => "any".to_owned(),
    };
    match kind.as_str() {
        "array" => format!("list of {}", kind_of(solid(&schema["items"]))),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind_of(solid(&schema["additionalProperties"])))
        }
        _ => kind,
    }
}

fn rows(text: &mut String, path: &str, schema: &Value) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|one| one == name))
    };
    for (name, outer) in fields {
        let field = solid(outer);
        let here = format!("{path}{name}");
        let star = if required(name) { " *" } else { "" };
        let default = match &outer["default"] {
            Value::Null => String::new(),
            value if value.is_object() || value == &serde_json::json!([]) => String::new(),
            value => format!("`{value}`"),
        };
        let meaning = outer["description"]
            .as_str()
            .or(field["description"].as_str())
            .unwrap_or_default();
        let first = meaning.split("\n\n").next().unwrap_or_default();
        writeln!(
            text,
            "| `{here}`{star} | {} | {} | {} |",
            cell(&kind_of(field)),
            cell(&default),
            cell(first)
        )
        .unwrap();
        match field["type"].as_str() {
            Some("array") => rows(text, &format!("{here}[]."), solid(&field["items"])),
            _ => rows(text, &format!("{here}."), field),
        }
    }
}

const HEAD: &str = "| field | type | default | meaning |\n| --- | --- | --- | --- |\n";

#[test]
fn every_field_of_the_resources_is_in_the_reference() {
    let mut text = format!(
        "# Every field of the resources\n\n{MADE}`*`: required. What they mean together: [the operator](operator.md), [stores](stores.md).\n"
    );
    for resource in [
        EtcdBackup::crd(),
        EtcdBackupSchedule::crd(),
        EtcdRestore::crd(),
    ] {
        let value = serde_json::to_value(&resource).unwrap();
        let version = &value["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"]["properties"];
        let names = &value["spec"]["names"];
        let short = names["shortNames"].as_array().unwrap();
        let short: Vec<String> = short
            .iter()
            .map(|name| format!("`{}`", name.as_str().unwrap()))
            .collect();
        writeln!(
            text,
            "\n## {}\n\n`{}`, short {}.\n\n### spec\n\n{HEAD}",
            names["kind"].as_str().unwrap(),
            value["metadata"]["name"].as_str().unwrap(),
            short.join(", ")
        )
        .unwrap();
        text.truncate(text.trim_end().len());
        text.push('\n');
        rows(&mut text, "", &schema["spec"]);
        write!(text, "\n### status\n\n{HEAD}").unwrap();
        rows(&mut text, "", &schema["status"]);
    }
    page("docs/reference/resources.md", &text);
}

#[test]
fn every_field_of_the_config_is_in_the_reference() {
    let schema = schemars::generate::SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<EtcdGuardianConfig>();
    let schema = serde_json::to_value(schema).unwrap();
    let mut text = format!(
        "# Every field of the config file\n\n{MADE}`*`: required. With an example: [the config file](config.md).\n\n{HEAD}"
    );
    rows(&mut text, "", &schema);
    page("docs/reference/config-fields.md", &text);
}

fn verbs(text: &mut String, path: &str, command: &clap::Command) {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let name = format!("{path}{}", command.get_name());
    let wants: Vec<String> = command
        .get_arguments()
        .filter(|one| one.is_positional())
        .map(|one| format!("{one}"))
        .collect();
    let line = [name.as_str()]
        .into_iter()
        .chain(wants.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ");
    let flags: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|one| !one.is_positional() && !one.is_hide_set() && !one.is_global_set())
        .filter(|one| !["help", "version"].contains(&one.get_id().as_str()))
        .collect();
    let inner: Vec<&clap::Command> = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help" && !one.is_hide_set())
        .collect();
    if inner.is_empty() {
        write!(
            text,
            "\n## {}\n\n{}.\n",
            cell(&line),
            about.trim_end_matches('.')
        )
        .unwrap();
        if !flags.is_empty() {
            text.push_str("\n| flag | meaning |\n| --- | --- |\n");
        }
        for flag in flags {
            let help = flag.get_long_help().or(flag.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let default: Vec<String> = flag
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .filter(|value| !value.is_empty() && value != "false")
                .collect();
            let default = match default.is_empty() {
                true => String::new(),
                false => format!(" Default: `{}`.", default.join(" ")),
            };
            writeln!(
                text,
                "| `{}` | {}{} |",
                cell(&flag.to_string()),
                cell(&help),
                default
            )
            .unwrap();
        }
    }
    for one in inner {
        verbs(text, &format!("{name} "), one);
    }
}

#[test]
fn every_verb_and_flag_is_in_the_reference() {
    let mut command = Cli::command();
    command.build();
    let mut text = format!(
        "# Every verb and flag\n\n{MADE}Every verb also takes `--config`, `--output`, `--no-progress` and `--log`. An overview: [commands](cli.md).\n"
    );
    verbs(&mut text, "", &command);
    assert!(text.contains("## etcdguardian backup create"), "{text}");
    page("docs/reference/flags.md", &text);
}

/// `startRevision` of `start_revision`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (head, tail) = part.split_at(1);
        text + &head.to_uppercase() + tail
    })
}

/// The manifest's fields, with what the code says of each.
#[test]
fn every_field_of_a_manifest_is_in_the_reference() {
    let code = std::fs::read_to_string(repository("src/repository/mod.rs")).unwrap();
    let (_, rest) = code.split_once("pub struct Manifest {").unwrap();
    let (fields, _) = rest.split_once("\n}").unwrap();
    let mut text = format!(
        "# The format of a repository\n\n{MADE}\n\
         Everything of a backup lies below `<prefix>/<cluster id>/v1/`:\n\n\
         | | data | commit point |\n| --- | --- | --- |\n\
         | full | `full/<id>/snapshot.db` | `full/<id>/manifest.json` |\n\
         | increment | `incr/<base>/<first>-<last>.seg` | `incr/<base>/<first>-<last>.json` |\n\
         | export | `export/<id>/bundle.tar` | `export/<id>/manifest.json` |\n\n\
         Data is what etcd sent, image and digest (of an increment a [segment](segment-format.md)), compressed by zstd (`.zst` is appended),\n\
         then sealed by age (`.age` is appended). The manifest is written last and never overwritten: without it there is no backup. Fields are\n\
         added, never renamed; `formatVersion` rises when an older program must not read it.\n\n\
         Beside them, `lock/<base>/` says who may write a chain, and `pin/<base>/` who reads one: what is pinned is not deleted. A pin is\n\
         written anew every two minutes and counts for a quarter of an hour, by the store's clock.\n\n\
         ## The manifest\n\n| field | meaning |\n| --- | --- |\n"
    );
    let (mut meaning, mut renamed, mut found) = (String::new(), None, 0);
    for line in fields.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            meaning = format!("{meaning} {words}");
        } else if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if let Some(field) = line.strip_prefix("pub ") {
            let (name, kind) = field.split_once(':').unwrap();
            let name = renamed.take().unwrap_or_else(|| camel(name));
            let absent = if kind.trim().starts_with("Option") {
                " May be absent."
            } else {
                ""
            };
            writeln!(text, "| `{name}` | {}{absent} |", cell(&meaning)).unwrap();
            meaning.clear();
            found += 1;
        }
    }
    assert!(found >= 25, "{found}");
    page("docs/reference/repository-format.md", &text);
}

/// The reasons of events that the operator publishes are in its reference.
#[test]
fn every_event_is_in_the_reference() {
    let reference = std::fs::read_to_string(repository("docs/reference/operator.md")).unwrap();
    let mut found = 0;
    let mut folders = vec![repository("src/operator")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices(".event(") {
                // event(object, is_warning, reason, action, note)
                let Some(reason) = text[at..].split(',').nth(2) else {
                    continue;
                };
                let Some(reason) = reason.trim().strip_prefix('"') else {
                    continue;
                };
                let reason = reason.trim_end_matches('"');
                let is_reason = reason.starts_with(char::is_uppercase)
                    && reason.chars().all(|c| c.is_ascii_alphanumeric());
                if is_reason {
                    found += 1;
                    assert!(
                        reference.contains(&format!("`{reason}`")),
                        "{}: {reason} is not in the reference",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(found >= 3, "only {found} events were found");
}
