//! What verbs need before they can work: the config, Secrets, the store and the cluster that flags or config name.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::args::Global;
use super::{CliError, output};
use crate::api::ErrorClass;
use crate::api::{
    ClusterConfig, EtcdAuth, EtcdCertificates, EtcdGuardianConfig, LogFormat, StorageLocation,
    parse_config,
};
use crate::secrets::{FolderSecrets, Secrets};
use crate::telemetry::{self, Logs};

/// The config and what follows from it.
pub struct Context {
    /// The config file's content; defaults when none was named.
    pub config: EtcdGuardianConfig,
    /// The config file, when one was named.
    pub config_file: Option<PathBuf>,
    /// Where Secrets are read from.
    pub secrets: Arc<dyn Secrets>,
}

impl Context {
    /// Reads the config file when one is named and starts logging.
    pub fn load(global: &Global, default_log: &str) -> Result<Self, CliError> {
        let config = match &global.config {
            None => EtcdGuardianConfig::default(),
            Some(file) => {
                let origin = file.display().to_string();
                let text = std::fs::read_to_string(file).map_err(|error| {
                    CliError::new(
                        ErrorClass::Usage,
                        format!("the config file {origin} cannot be read: {error}; check --config"),
                    )
                })?;
                parse_config(&text, &origin)?
            }
        };
        start_logging(global, &config, default_log)?;
        let secrets = Arc::new(FolderSecrets::new(config.secrets_dir.clone()));
        Ok(Self {
            config,
            config_file: global.config.clone(),
            secrets,
        })
    }

    /// The store of a flag, else of the config.
    pub fn store(&self, url: Option<&str>, flag: &str) -> Result<StorageLocation, CliError> {
        match (url, &self.config.store) {
            (Some(url), _) => Ok(url.parse::<StorageLocation>()?),
            (None, Some(store)) => Ok(store.clone()),
            (None, None) => Err(CliError::new(
                ErrorClass::Usage,
                format!(
                    "no store is named: add {flag} URL (such as {flag} s3://bucket/prefix), or --config with a store"
                ),
            )),
        }
    }

    /// The state folder of the config.
    pub fn state_dir(&self) -> Result<PathBuf, CliError> {
        self.config.state_dir.clone().ok_or_else(|| {
            CliError::new(
                ErrorClass::Usage,
                "the state folder is not known: add --config with the file that 'etcdguardian run' uses",
            )
        })
    }
}

/// How to reach etcd; flags have etcdctl's names and go before the config.
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdFlags {
    /// Client URLs of the members, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub endpoints: Vec<String>,
    /// Certificate authority of etcd.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Client certificate.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Secret of secretsDir with the keys username and password.
    #[arg(long, value_name = "SECRET")]
    pub auth_secret: Option<String>,
}

impl EtcdFlags {
    /// The cluster of the flags, each absent one taken from the config.
    pub fn cluster(&self, context: &Context) -> Result<ClusterConfig, CliError> {
        self.onto(context.config.cluster.clone().unwrap_or_default())
    }

    /// The flags on top of a cluster that something else names; one of them must name an endpoint.
    pub fn onto(&self, cluster: ClusterConfig) -> Result<ClusterConfig, CliError> {
        let cluster = self.flags_onto(cluster)?;
        if cluster.endpoints.is_empty() {
            return Err(CliError::new(
                ErrorClass::Usage,
                "no etcd is named: add --endpoints https://HOST:2379, or --config with a cluster",
            ));
        }
        Ok(cluster)
    }

    /// The flags on top of a cluster that something else names.
    pub fn flags_onto(&self, mut cluster: ClusterConfig) -> Result<ClusterConfig, CliError> {
        if !self.endpoints.is_empty() {
            cluster.endpoints.clone_from(&self.endpoints);
        }
        if self.cacert.is_some() || self.cert.is_some() {
            let text = |path: &Option<PathBuf>| -> Result<Option<String>, CliError> {
                let Some(path) = path else { return Ok(None) };
                let path = std::path::absolute(path)?;
                Ok(Some(path.display().to_string()))
            };
            cluster.certificates = Some(EtcdCertificates {
                secret_name: None,
                ca: text(&self.cacert)?,
                cert: text(&self.cert)?,
                key: text(&self.key)?,
            });
        }
        if let Some(secret_name) = &self.auth_secret {
            cluster.auth = Some(EtcdAuth {
                secret_name: secret_name.clone(),
            });
        }
        Ok(cluster)
    }
}

fn start_logging(
    global: &Global,
    config: &EtcdGuardianConfig,
    default_log: &str,
) -> Result<(), CliError> {
    let filter = global
        .log
        .as_deref()
        .or(config.log.level.as_deref())
        .unwrap_or(default_log);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        CliError::new(
            ErrorClass::Usage,
            format!("'{filter}' is not a log filter: {error}; write info, or etcdguardian=debug"),
        )
    })?;
    let logs = Logs {
        filter,
        json: config.log.format == LogFormat::Json,
        colours: output::colours(),
    };
    telemetry::start(logs, config.tracing.endpoint.as_deref());
    Ok(())
}

/// The text of a file that the command line names; an absent one is `NotFound`, and the error names it.
pub(super) fn read_text(path: &std::path::Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| {
        let class = if error.kind() == std::io::ErrorKind::NotFound {
            ErrorClass::NotFound
        } else {
            ErrorClass::Failed
        };
        CliError::from_error(class, &error).about(path)
    })
}
