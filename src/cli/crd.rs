//! `crd` prints the generated CustomResourceDefinitions, `version` what this binary is.

use clap::Args;
use kube::CustomResourceExt;
use serde_json::Value;

use super::output::{self, Format};
use super::{CliError, args::Global};
use crate::api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore};

/// Print the CustomResourceDefinitions.
#[derive(Debug, Args)]
pub struct Crd {
    /// Only this one, as `etcdbackups`.
    name: Option<String>,
}

impl Crd {
    pub(super) fn run(&self, global: &Global) -> Result<(), CliError> {
        let all = [
            EtcdBackup::crd(),
            EtcdBackupSchedule::crd(),
            EtcdRestore::crd(),
        ];
        let wanted: Vec<Value> = all
            .iter()
            .filter(|crd| {
                self.name
                    .as_ref()
                    .is_none_or(|name| *name == crd.spec.names.plural)
            })
            .filter_map(|crd| serde_json::to_value(crd).ok())
            .collect();
        if wanted.is_empty() {
            let name = self.name.as_deref().unwrap_or_default();
            return Err(CliError::new(
                crate::api::ErrorClass::NotFound,
                format!(
                    "there is no resource '{name}': use etcdbackups, etcdbackupschedules or etcdrestores"
                ),
            ));
        }
        if global.output == Format::Json {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": wanted });
            return output::print(Format::Json, &list, |_| String::new());
        }
        for crd in &wanted {
            output::write_out(b"---\n")?;
            output::print(Format::Yaml, crd, |_| String::new())?;
        }
        Ok(())
    }
}

pub(super) fn version(global: &Global) -> Result<(), CliError> {
    let version = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "rustVersion": env!("CARGO_PKG_RUST_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
    });
    output::print(global.output, &version, |_| {
        format!("etcdguardian {}", env!("CARGO_PKG_VERSION"))
    })
}
