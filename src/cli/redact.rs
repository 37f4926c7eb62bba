//! Takes out of a report what must not leave the house: contents of secrets, users and queries of URLs, names of people.

use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

use crate::api::EtcdGuardianConfig;

/// What stands in place of what was taken out.
const CUT: &str = "[redacted]";
/// Shorter secrets are not looked for: they would be found everywhere.
const SHORTEST: usize = 5;
/// Larger files are no secrets of ours, bytes.
const LARGEST: u64 = 64 << 10;
/// Fields whose text is a secret whatever it is; names of Secrets and files are none.
const SECRET_FIELDS: [&str; 5] = ["password", "token", "secretkey", "authorization", "apikey"];

/// Where a URL's path is its password: alert channels, the heartbeat, hooks.
const HOOKS: [&str; 3] = ["webhook", "heartbeat", "http"];
/// Parts of the names of variables whose values are secrets.
const SECRET_VARIABLES: [&str; 4] = ["SECRET", "TOKEN", "PASSWORD", "PASSPHRASE"];

/// Knows the secrets.
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Reads every secret that the config and the environment can reach, to find it again in the report, and those that its URLs
    /// hold.
    pub fn of(config: &EtcdGuardianConfig, report: &Value) -> Self {
        Self::knowing(config, report, std::env::vars())
    }

    fn knowing(
        config: &EtcdGuardianConfig,
        report: &Value,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let mut files = Vec::new();
        if let Some(folder) = &config.secrets_dir {
            below(folder, &mut files);
        }
        named(
            &serde_json::to_value(config).unwrap_or_default(),
            &mut files,
        );
        let mut secrets = Vec::new();
        in_urls("", report, &mut secrets);
        let named_secret = |name: &str| SECRET_VARIABLES.iter().any(|part| name.contains(part));
        secrets.extend(
            variables
                .filter(|(name, _)| named_secret(&name.to_uppercase()))
                .map(|(_, value)| value)
                .filter(|value| value.len() >= SHORTEST),
        );
        for file in files {
            let small = std::fs::metadata(&file).is_ok_and(|about| about.len() <= LARGEST);
            if !small {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines = text.lines().map(str::trim);
            secrets.extend(
                lines
                    .filter(|line| line.len() >= SHORTEST)
                    .map(str::to_owned),
            );
            // Of a header only the value is secret.
            let values = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(_, value)| value.trim());
            // With `Bearer` before it or without.
            let values = values.flat_map(|value| [Some(value), value.rsplit(' ').next()]);
            secrets.extend(
                values
                    .flatten()
                    .filter(|value| value.len() >= SHORTEST)
                    .map(str::to_owned),
            );
        }
        // A secret that holds another goes first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The value without secrets.
    pub fn redact(&self, value: Value) -> Value {
        match value {
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, value)| {
                        let lower = name.to_lowercase();
                        let value = match value {
                            Value::String(_) if SECRET_FIELDS.contains(&lower.as_str()) => {
                                CUT.into()
                            }
                            Value::String(text) if lower == "url" => {
                                Value::String(self.text(&without_path(&text)))
                            }
                            value => self.redact(value),
                        };
                        (self.text(&name), value)
                    })
                    .collect(),
            ),
            Value::Array(values) => values.into_iter().map(|value| self.redact(value)).collect(),
            Value::String(text) => Value::String(self.text(&text)),
            other => other,
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), CUT);
            }
        }
        let words = text.split_inclusive(char::is_whitespace);
        words.map(word).collect()
    }
}

/// A URL without its user and query, an address without its name; any other word as it is.
fn word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
    if bare.contains("://")
        && let Ok(mut url) = Url::parse(bare)
    {
        let private =
            !url.username().is_empty() || url.password().is_some() || url.query().is_some();
        if private {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            return word.replace(bare, url.as_str());
        }
        return word.to_owned();
    }
    match bare.split_once('@') {
        Some((name, domain)) if !name.is_empty() && domain.contains('.') && !bare.contains('/') => {
            word.replace(bare, &format!("{CUT}@{domain}"))
        }
        _ => word.to_owned(),
    }
}

/// What in URLs is a secret: passwords, values of queries, and the paths of webhooks, so that an error that names one is cut too.
fn in_urls(parent: &str, value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let url = value.as_str().and_then(|text| Url::parse(text).ok());
                let Some(url) = url.filter(|url| ["http", "https"].contains(&url.scheme())) else {
                    in_urls(name, value, secrets);
                    continue;
                };
                let mut parts: Vec<String> =
                    url.password().map(str::to_owned).into_iter().collect();
                parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
                if name == "url" && HOOKS.contains(&parent) {
                    parts.push(url.path().to_owned());
                }
                secrets.extend(parts.into_iter().filter(|part| part.len() >= SHORTEST));
            }
        }
        Value::Array(values) => {
            for value in values {
                in_urls(parent, value, secrets);
            }
        }
        _ => {}
    }
}

/// A webhook's path is its password.
fn without_path(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.path().len() > 1 => {
            let origin = url.origin().ascii_serialization();
            format!("{origin}/{CUT}")
        }
        _ => text.to_owned(),
    }
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Files that the config names for secrets: fields that end in `File`, but for certificates.
fn named(value: &Value, files: &mut Vec<PathBuf>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(path) if name.ends_with("File") && !name.starts_with("ca") => {
                        files.push(path.into());
                    }
                    value => named(value, files),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| named(value, files)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_url_hides_is_cut_out_of_errors_too() {
        let report = json!({
            "config": {
                "alerts": {"channels": [{"webhook": {"url": "https://hooks.example.com/T0/B0/abcdef"}}], "heartbeat": {"url": "https://beat.example.com/0123-4567"}},
                "prometheus": {"url": "https://scrape:pass-of-prom@prom.example.com/prometheus?token=query-token"},
                "store": {"endpoint": "https://s3.example.com"},
            },
            "manifests": {"main.yaml": [{"hooks": {"preBackup": [{"http": {"url": "https://quiesce.example.com/run/very-private"}}]}}]},
            "status": {"error": "POST /T0/B0/abcdef failed; GET of /run/very-private: 403; login pass-of-prom, query-token; beat /0123-4567 at /prometheus"},
        });
        let redacted = Redactor::of(&EtcdGuardianConfig::default(), &report).redact(report);
        let text = redacted.to_string();
        for secret in [
            "abcdef",
            "very-private",
            "pass-of-prom",
            "query-token",
            "0123-4567",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(text.contains("at /prometheus"), "no secret: {text}");
        assert!(text.contains("https://s3.example.com"), "{text}");
    }

    #[test]
    fn what_is_secret_is_cut_out_wherever_it_stands() {
        let redactor = Redactor {
            secrets: vec!["hunter2 and more".to_owned(), "hunter2".to_owned()],
        };
        let redacted = redactor.redact(json!({
            "message": "login with hunter2 at https://me:pw@etcd:2379/x?token=1 failed, told ops@example.com",
            "channel": {"url": "https://hooks.example.com/services/T0/B0/x", "to": ["<ops@example.com>"]},
            "password": "p", "credentialsSecret": "s3", "deep": [{"all": "hunter2 and more"}],
            "location": "s3://bucket/a", "rate": 3,
        }));
        assert_eq!(
            redacted,
            json!({
                "message": "login with [redacted] at https://etcd:2379/x failed, told [redacted]@example.com",
                "channel": {"url": "https://hooks.example.com/[redacted]", "to": ["<[redacted]@example.com>"]},
                "password": "[redacted]", "credentialsSecret": "s3", "deep": [{"all": "[redacted]"}],
                "location": "s3://bucket/a", "rate": 3,
            })
        );
    }

    /// A secret that one layer alone can find, for each of them: without that layer it is in the report.
    #[test]
    fn every_layer_finds_what_no_other_one_would() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("secrets/s3")).unwrap();
        std::fs::write(at("secrets/s3/secret-access-key"), "of-a-secret\n").unwrap();
        std::fs::write(at("bot"), "of-a-named-file").unwrap();
        std::fs::write(
            at("headers"),
            "X-Key: of-a-header\nAuthorization: Bearer of-a-bearer\n",
        )
        .unwrap();
        std::fs::write(at("authority.pem"), "of-no-secret-but-a-certificate").unwrap();
        let config = json!({
            "secretsDir": at("secrets"),
            "alerts": {"channels": [
                {"name": "chat", "slack": {"tokenFile": at("bot"), "channel": "C0"}},
                {"name": "hook", "webhook": {"url": "https://example.com", "headersFile": at("headers")}},
                {"name": "mail", "email": {"smtp": {"host": "h", "caFile": at("authority.pem")}, "from": "a@example.com", "to": []}},
            ]},
        });
        let config: EtcdGuardianConfig = serde_json::from_value(config).unwrap();
        let report = json!({
            "log": "of-a-secret; of-a-named-file; of-a-header; of-a-bearer; of-a-variable; of-a-password; of-a-query; POST /of/a-hook; of-no-secret",
            "of-a-named-file": "a field's name is text too",
            "etcd": {"endpoint": "https://me:of-a-password@etcd.example.com/?key=of-a-query"},
            "preBackup": [{"http": {"url": "https://quiesce.example.com/of/a-hook"}}],
            "somewhere": {"url": "https://example.com/of-a-path"},
            "fields": {"token": "of-a", "password": "of-b"},
            "words": "told of-a-person@example.com by https://of-a-user:of-c@mail.example.com/?of-an-argument",
            "authority": "of-no-secret-but-a-certificate",
        });
        let variables = [("SMTP_PASSWORD", "of-a-variable"), ("HOME", "of-no-secret")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let redactor = Redactor::knowing(&config, &report, variables.into_iter());
        let text = redactor.redact(report).to_string();
        let found: Vec<&str> = [
            "of-a-secret",
            "of-a-named-file",
            "of-a-header",
            "of-a-bearer",
            "of-a-variable",
            "of-a-password",
            "of-a-query",
            "/of/a-hook",
            "of-a-path",
            "\"of-a\"",
            "\"of-b\"",
            "of-a-person",
            "of-a-user",
            "of-c@",
            "of-an-argument",
        ]
        .into_iter()
        .filter(|secret| text.contains(secret))
        .collect();
        assert!(found.is_empty(), "{found:?} in {text}");
        for kept in [
            "of-no-secret\"",
            "of-no-secret-but-a-certificate",
            "etcd.example.com",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
