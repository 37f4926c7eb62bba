//! `restore --plan`: what the cluster must fit that will run on the restored etcd, and what of it a given one does not.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::CliError;
use crate::export::apply::Server;
use crate::export::direct::PREFIX;
use crate::export::findings::Finding;
use crate::export::fit::{Here, findings};
use crate::export::survey::{Held, KindHeld, survey};
use crate::export::target::{Served, Target};

/// A cluster to compare with. Unlike other verbs', it is asked only when it is named: a restore is mostly for one that is down.
#[derive(Debug, Args)]
pub struct TargetFlags {
    /// With --plan: kubeconfig file of the cluster whose API server will run on the restored etcd, or of one like it; what of the backup
    /// does not fit it is said.
    #[arg(long, value_name = "FILE", requires = "plan")]
    kubeconfig: Option<PathBuf>,
    /// With --plan: context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "plan")]
    context: Option<String>,
}

/// The cluster that was asked.
pub struct Asked {
    target: Target,
    served: Served,
}

impl TargetFlags {
    /// Asks the cluster that is named, when one is.
    pub async fn ask(&self) -> Result<Option<Asked>, CliError> {
        if self.kubeconfig.is_none() && self.context.is_none() {
            return Ok(None);
        }
        let server = Server::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
        let (target, served) = (server.target().await?, server.served().await?);
        Ok(Some(Asked { target, served }))
    }
}

/// What is in a backup and what to know of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// Kubernetes' objects, by the version in which they are stored.
    kinds: Vec<KindHeld>,
    /// What to know before.
    findings: Vec<Finding>,
    #[serde(skip)]
    line: Option<String>,
}

impl Fit {
    /// Looks at a snapshot as of a revision; `etcd` is the version that it was taken from.
    pub fn of(
        bytes: &[u8],
        revision: Option<i64>,
        etcd: Option<&str>,
        asked: Option<&Asked>,
    ) -> Result<Self, CliError> {
        let held = survey(bytes, PREFIX, revision)?;
        Ok(Self::from(held, etcd, asked))
    }

    /// What can be said without the objects.
    pub fn unseen(etcd: Option<&str>) -> Self {
        Self::from(Held::default(), etcd, None)
    }

    fn from(held: Held, etcd: Option<&str>, asked: Option<&Asked>) -> Self {
        let here = asked.map(|asked| Here {
            target: &asked.target,
            served: &asked.served,
        });
        Self {
            findings: findings(&held, etcd, here),
            line: held.words(),
            kinds: held.kinds,
        }
    }

    /// How much it is, as one of the fields that are printed.
    pub fn holds(&self) -> Option<(&'static str, String)> {
        Some(("holds", self.line.clone()?))
    }

    /// The findings, a line each.
    pub fn words(&self) -> String {
        let lines = self.findings.iter().map(|finding| {
            let word = if finding.blocks { "missing" } else { "note" };
            format!("{word}: {}: {}\n", finding.code, finding.message)
        });
        lines.collect()
    }
}
