//! What Velero says of one of its Backups or Restores, as far as both say the same. Pure.

use kube::ResourceExt;
use serde_json::Value;

/// How far Velero's half is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// It works, or is about to.
    Waiting {
        /// What is waited for.
        message: String,
        /// Its uid, once it is there.
        uid: Option<String>,
    },
    /// It ended.
    Ended {
        /// Whether it is whole.
        whole: bool,
        /// CamelCase.
        reason: String,
        /// What came of it.
        message: String,
        /// Velero's own word.
        phase: Option<String>,
        /// Its uid.
        uid: Option<String>,
        /// Bucket and prefix.
        location: Option<String>,
    },
}

impl Half {
    /// It is not there yet.
    pub fn later(message: &str) -> Self {
        Self::Waiting {
            message: message.to_owned(),
            uid: None,
        }
    }

    /// It will not come.
    pub fn failed(reason: &str, message: &str) -> Self {
        Self::Ended {
            whole: false,
            reason: reason.to_owned(),
            message: message.to_owned(),
            phase: None,
            uid: None,
            location: None,
        }
    }

    /// Its uid, once it is there.
    pub fn uid(&self) -> Option<&String> {
        let (Self::Waiting { uid, .. } | Self::Ended { uid, .. }) = self;
        uid.as_ref()
    }
}

/// The name of a Velero object: the one that the spec names, else one that no other of our objects leads to.
pub fn name_for<K: ResourceExt>(named: Option<String>, ours: &K) -> String {
    named.unwrap_or_else(|| {
        let uid = ours.uid().unwrap_or_default();
        let short: String = uid.chars().take(8).collect();
        let name: String = ours.name_any().chars().take(200).collect();
        format!("{name}-{short}")
    })
}

/// A Velero object that is there.
pub struct There<'a> {
    /// Backup or Restore.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// All of it.
    pub object: &'a Value,
    /// Its uid.
    pub uid: Option<String>,
    /// Bucket and prefix, of a Backup.
    pub location: Option<String>,
}

impl There<'_> {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }

    /// Velero's own word for how far it is.
    pub fn phase(&self) -> &str {
        self.text("/status/phase").unwrap_or_default()
    }

    /// It is over.
    pub fn ended(&self, whole: bool, reason: &str, words: &str) -> Half {
        Half::Ended {
            whole,
            reason: reason.to_owned(),
            message: format!("Velero's {} {} {words}", self.kind, self.name),
            phase: Some(self.phase().to_owned()),
            uid: self.uid.clone(),
            location: self.location.clone(),
        }
    }

    /// It goes on.
    pub fn waiting(&self, before: &str, after: &str) -> Half {
        let phase = match self.phase() {
            "" => "not begun",
            phase => phase,
        };
        Half::Waiting {
            message: format!(
                "{before}Velero's {} {} is {phase}{after}",
                self.kind, self.name
            ),
            uid: self.uid.clone(),
        }
    }

    /// Its end, where Velero calls it one.
    pub fn end(&self) -> Option<Half> {
        let number = |field: &str| self.object["status"][field].as_i64().unwrap_or_default();
        let counted = || {
            let logs = format!("velero {} logs {}", self.kind.to_lowercase(), self.name);
            let (errors, warnings) = (number("errors"), number("warnings"));
            format!("has {errors} errors and {warnings} warnings: see `{logs}`")
        };
        let failed = || {
            let errors = self.object.pointer("/status/validationErrors");
            let errors = errors.and_then(Value::as_array).into_iter().flatten();
            let errors = errors.filter_map(Value::as_str);
            let said: Vec<&str> = errors.chain(self.text("/status/failureReason")).collect();
            format!("failed: {}", said.join("; "))
        };
        Some(match self.phase() {
            "Completed" => {
                let place = self.location.as_ref();
                let place = place.map(|place| format!(" in {place}"));
                let words = format!(
                    "is complete{}, with {} warnings",
                    place.unwrap_or_default(),
                    number("warnings")
                );
                self.ended(true, "Completed", &words)
            }
            "PartiallyFailed" => self.ended(false, "VeleroPartiallyFailed", &counted()),
            "Failed" => self.ended(false, "VeleroFailed", &failed()),
            "FailedValidation" => self.ended(false, "VeleroFailedValidation", &failed()),
            _ => return None,
        })
    }
}
