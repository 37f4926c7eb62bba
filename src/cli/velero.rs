//! `velero install`: renders what Velero needs beside EtcdGuardian, in the same kind of store, and applies it when told.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::object_restore::{LOG, ServerFlags};
use super::output::{self, Format};
use crate::api::ErrorClass;
use crate::export::apply::Incoming;
use crate::export::stored::Identity;

const VELERO_IMAGE: &str = "velero/velero:v1.18.3";
const AWS_PLUGIN: &str = "velero/velero-plugin-for-aws:v1.14.3";
/// Where the plugin's init container leaves its binary, and Velero looks for it.
const PLUGINS: &str = "/plugins";

/// Velero beside EtcdGuardian.
#[derive(Debug, Args)]
pub struct Velero {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the manifests of a Velero set-up, or apply them.
    Install(Box<Install>),
}

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Alibaba Cloud OSS, by its S3-compatible interface.
    Oss,
    /// AWS S3.
    S3,
    /// What speaks S3 under its own URL, as MinIO or Ceph.
    Minio,
}

/// Print the manifests of a Velero set-up (server, plugin, store), or apply them with --apply.
///
/// Velero's own CustomResourceDefinitions are created by an init container of its image. Credentials come from a file in the
/// form of AWS's credentials file.
#[derive(Debug, Args)]
struct Install {
    /// Kind of the store.
    #[arg(long, value_enum)]
    storage_provider: Provider,
    /// Bucket of OSS.
    #[arg(long, value_name = "BUCKET", conflicts_with = "s3_bucket")]
    oss_bucket: Option<String>,
    /// Region of OSS, as cn-hangzhou.
    #[arg(long, value_name = "REGION", conflicts_with = "s3_region")]
    oss_region: Option<String>,
    /// Endpoint of OSS; that of the region unless given, as https://oss-cn-hangzhou-internal.aliyuncs.com.
    #[arg(long, value_name = "URL", conflicts_with = "s3_endpoint")]
    oss_endpoint: Option<String>,
    /// Bucket of S3.
    #[arg(long, value_name = "BUCKET")]
    s3_bucket: Option<String>,
    /// Region of S3.
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// URL of a store that speaks S3.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Prefix in the bucket.
    #[arg(long, default_value = "velero", value_name = "PREFIX")]
    prefix: String,
    /// File with the store's credentials; workload identity unless given.
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Let EtcdGuardian's service account make Velero backups and restores.
    #[arg(long)]
    enable_etcd_integration: bool,
    /// EtcdGuardian's service account, as NAMESPACE/NAME.
    #[arg(long, default_value = "etcdguardian/etcdguardian", value_name = "SA")]
    guardian_service_account: String,
    /// Namespace of Velero.
    #[arg(long, short, default_value = "velero", value_name = "N")]
    namespace: String,
    /// Image of Velero.
    #[arg(long, default_value = VELERO_IMAGE, value_name = "IMAGE")]
    image: String,
    /// Image of the plugin for the store.
    #[arg(long, default_value = AWS_PLUGIN, value_name = "IMAGE")]
    plugin_image: String,
    /// Apply the manifests instead of printing them.
    #[arg(long)]
    apply: bool,
    /// Do not ask before applying.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl Velero {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let Verb::Install(install) = &self.verb;
        install.run(global).await
    }
}

impl Install {
    async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        Context::load(global, LOG)?;
        let credentials = match &self.credentials_file {
            None => None,
            Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
                CliError::new(
                    ErrorClass::Credentials,
                    format!(
                        "the credentials file {} cannot be read: {error}",
                        file.display()
                    ),
                )
            })?),
        };
        let manifests = self.manifests(credentials.as_deref())?;
        if !self.apply {
            print(global.output, &manifests)?;
            return Ok(ExitCode::SUCCESS);
        }
        for manifest in &manifests {
            output::say(format!("apply {}", identity(manifest)));
        }
        let server = self.server.connect().await?;
        output::confirm(&format!("to {}?", server.url()), self.yes)?;
        for manifest in manifests {
            let incoming = Incoming {
                identity: identity(&manifest),
                object: manifest.as_object().cloned().unwrap_or_default(),
                strict: false,
                stored: None,
            };
            if let Err(reason) = server.apply(&incoming, false).await? {
                let hint = if incoming.identity.api_version == "velero.io/v1" {
                    "; Velero's definitions are made by its first pod: run this again when it runs"
                } else {
                    ""
                };
                return Err(CliError::new(
                    ErrorClass::Refused,
                    format!("{} is not applied: {reason}{hint}", incoming.identity),
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The store as Velero wants it: bucket, region, and what the plugin must be told.
    fn store(&self) -> Result<(String, Value), CliError> {
        let missing = |flag: &str| {
            let provider = self.storage_provider.to_possible_value();
            let provider = provider
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default();
            CliError::new(
                ErrorClass::Usage,
                format!("--storage-provider {provider} needs {flag}"),
            )
        };
        Ok(match self.storage_provider {
            Provider::Oss => {
                let bucket = self
                    .oss_bucket
                    .clone()
                    .ok_or_else(|| missing("--oss-bucket"))?;
                let region = self
                    .oss_region
                    .clone()
                    .ok_or_else(|| missing("--oss-region"))?;
                let region = region.trim_start_matches("oss-").to_owned();
                let endpoint = self
                    .oss_endpoint
                    .clone()
                    .unwrap_or_else(|| format!("https://oss-{region}.aliyuncs.com"));
                // OSS knows neither path-style addresses nor the SDK's streamed checksums.
                let config = json!({"region": region, "s3Url": endpoint, "s3ForcePathStyle": "false", "checksumAlgorithm": ""});
                (bucket, config)
            }
            Provider::S3 => {
                let bucket = self
                    .s3_bucket
                    .clone()
                    .ok_or_else(|| missing("--s3-bucket"))?;
                let region = self
                    .s3_region
                    .clone()
                    .ok_or_else(|| missing("--s3-region"))?;
                (bucket, json!({"region": region}))
            }
            Provider::Minio => {
                let bucket = self
                    .s3_bucket
                    .clone()
                    .ok_or_else(|| missing("--s3-bucket"))?;
                let url = self
                    .s3_endpoint
                    .clone()
                    .ok_or_else(|| missing("--s3-endpoint"))?;
                let region = self
                    .s3_region
                    .clone()
                    .unwrap_or_else(|| "us-east-1".to_owned());
                let config = json!({"region": region, "s3Url": url, "s3ForcePathStyle": "true", "checksumAlgorithm": ""});
                (bucket, config)
            }
        })
    }

    fn manifests(&self, credentials: Option<&str>) -> Result<Vec<Value>, CliError> {
        let (bucket, config) = self.store()?;
        let namespace = &self.namespace;
        let meta = |name: &str| json!({"name": name, "namespace": namespace, "labels": {"component": "velero"}});
        let mut manifests = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"component": "velero"}}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("velero")}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "velero", "labels": {"component": "velero"}},
                "subjects": [{"kind": "ServiceAccount", "name": "velero", "namespace": namespace}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}),
        ];
        if let Some(credentials) = credentials {
            manifests.push(
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("cloud-credentials"),
                "type": "Opaque", "stringData": {"cloud": credentials}}),
            );
        }
        manifests.push(self.deployment(credentials.is_some()));
        if self.enable_etcd_integration {
            manifests.extend(self.integration()?);
        }
        let mut location = json!({"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": meta("default"),
            "spec": {"provider": "aws", "default": true, "config": config,
                "objectStorage": {"bucket": bucket, "prefix": self.prefix}}});
        if credentials.is_some()
            && let Some(spec) = location.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.insert(
                "credential".into(),
                json!({"name": "cloud-credentials", "key": "cloud"}),
            );
        }
        manifests.push(location);
        Ok(manifests)
    }

    fn deployment(&self, with_credentials: bool) -> Value {
        let mut volumes = vec![
            json!({"name": "plugins", "emptyDir": {}}),
            json!({"name": "scratch", "emptyDir": {}}),
        ];
        let mut mounts = vec![
            json!({"name": "plugins", "mountPath": PLUGINS}),
            json!({"name": "scratch", "mountPath": "/scratch"}),
        ];
        let field = json!({"fieldRef": {"fieldPath": "metadata.namespace"}});
        let mut variables = vec![
            json!({"name": "VELERO_SCRATCH_DIR", "value": "/scratch"}),
            json!({"name": "VELERO_NAMESPACE", "valueFrom": field}),
        ];
        if with_credentials {
            volumes.push(
                json!({"name": "cloud-credentials", "secret": {"secretName": "cloud-credentials"}}),
            );
            mounts.push(json!({"name": "cloud-credentials", "mountPath": "/credentials"}));
            variables.push(
                json!({"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/credentials/cloud"}),
            );
        }
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "velero", "namespace": self.namespace, "labels": {"component": "velero"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"deploy": "velero"}}, "template": {
            "metadata": {"labels": {"component": "velero", "deploy": "velero"}},
            "spec": {
                "serviceAccountName": "velero", "restartPolicy": "Always", "volumes": volumes,
                "initContainers": [
                    {"name": "definitions", "image": self.image, "command": ["/velero", "install", "--crds-only"]},
                    {"name": "plugin", "image": self.plugin_image,
                        "volumeMounts": [{"name": "plugins", "mountPath": "/target"}]},
                ],
                "containers": [{"name": "velero", "image": self.image, "command": ["/velero"],
                    "args": ["server", "--plugin-dir", PLUGINS], "env": variables, "volumeMounts": mounts,
                    "ports": [{"name": "metrics", "containerPort": 8085}],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}}],
            }}}})
    }

    /// The right to make and watch Velero's backups and restores, in its namespace only.
    fn integration(&self) -> Result<[Value; 2], CliError> {
        let Some((namespace, name)) = self.guardian_service_account.split_once('/') else {
            return Err(CliError::new(
                ErrorClass::Usage,
                "--guardian-service-account is NAMESPACE/NAME, as etcdguardian/etcdguardian",
            ));
        };
        let meta = json!({"name": "etcdguardian-velero", "namespace": self.namespace});
        Ok([
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [
                {"apiGroups": ["velero.io"], "resources": ["backups", "restores"],
                    "verbs": ["create", "get", "list", "watch", "patch"]},
                {"apiGroups": ["velero.io"], "resources": ["backupstoragelocations"], "verbs": ["get", "list", "watch"]}]}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "etcdguardian-velero"}}),
        ])
    }
}

fn identity(manifest: &Value) -> Identity {
    let text = |pointer: &str| {
        let value = manifest.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Identity {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    }
}

/// As YAML documents for people and kubectl, or a List in JSON.
fn print(format: Format, manifests: &[Value]) -> Result<(), CliError> {
    if format == Format::Json {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        return output::print(Format::Json, &list, |_| String::new());
    }
    output::documents(manifests)
}
