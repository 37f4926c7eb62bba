//! YAML as users write it → checked resources and config. An unknown field is an error that names the nearest known one.

use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    ErrorClass, EtcdBackup, EtcdBackupSchedule, EtcdGuardianConfig, EtcdRestore, FieldError,
    StorageLocation, validate_backup, validate_config, validate_schedule,
};

/// One resource of a manifests folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// A single backup.
    Backup(Box<EtcdBackup>),
    /// A schedule of backups.
    Schedule(Box<EtcdBackupSchedule>),
    /// A restore.
    Restore(Box<EtcdRestore>),
}

/// Why a document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not YAML.
    #[error("{origin} is not valid YAML: {message}; mend the line that it names")]
    Syntax { origin: String, message: String },
    /// A kind that the binary does not know.
    #[error(
        "{origin}: kind '{kind}' is not known; use EtcdBackup, EtcdBackupSchedule or EtcdRestore of etcdguardian.io/v1alpha1"
    )]
    UnknownKind { origin: String, kind: String },
    /// Fields that are wrong, each with its path.
    #[error("{object} in {origin} is not valid: {}", join(.fields))]
    Invalid {
        origin: String,
        object: String,
        fields: Vec<FieldError>,
    },
}

impl DocumentError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

fn join(fields: &[FieldError]) -> String {
    fields
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Parses and checks every resource of a YAML text; `origin` is its file name, for errors.
///
/// A resource that names no `storageLocation` gets `store`, the config's default.
pub fn parse_resources(
    text: &str,
    origin: &str,
    store: Option<&StorageLocation>,
) -> Result<Vec<Resource>, DocumentError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| syntax(origin, &error))?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| parse_resource(document, origin, store))
        .collect()
}

/// Parses and checks a config file.
pub fn parse_config(text: &str, origin: &str) -> Result<EtcdGuardianConfig, DocumentError> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| syntax(origin, &error))?;
    let schema = serde_json::to_value(
        schemars::generate::SchemaSettings::draft07()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<EtcdGuardianConfig>(),
    )
    .unwrap_or_default();
    let invalid = |fields| DocumentError::Invalid {
        origin: origin.to_owned(),
        object: "EtcdGuardianConfig".to_owned(),
        fields,
    };
    let unknown = super::validate::unknown_fields(&document, &schema);
    if !unknown.is_empty() {
        return Err(invalid(unknown));
    }
    let config: EtcdGuardianConfig = typed(document).map_err(|field| invalid(vec![field]))?;
    let wrong = validate_config(&config);
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(invalid(wrong))
    }
}

fn syntax(origin: &str, error: &serde_saphyr::Error) -> DocumentError {
    DocumentError::Syntax {
        origin: origin.to_owned(),
        message: error.to_string(),
    }
}

fn parse_resource(
    mut document: Value,
    origin: &str,
    store: Option<&StorageLocation>,
) -> Result<Resource, DocumentError> {
    let kind = document
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let version = document
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if version != "etcdguardian.io/v1alpha1" {
        let kind = format!("{version} {kind}");
        return Err(DocumentError::UnknownKind {
            origin: origin.to_owned(),
            kind,
        });
    }
    match kind.as_str() {
        "EtcdBackup" => {
            fill_store(document.pointer_mut("/spec"), store);
            let backup: EtcdBackup = checked(document, origin, validate_backup)?;
            Ok(Resource::Backup(Box::new(backup)))
        }
        "EtcdBackupSchedule" => {
            fill_store(document.pointer_mut("/spec/backupTemplate/spec"), store);
            let schedule: EtcdBackupSchedule = checked(document, origin, validate_schedule)?;
            Ok(Resource::Schedule(Box::new(schedule)))
        }
        "EtcdRestore" => {
            let restore: EtcdRestore = checked(document, origin, |_| Vec::new())?;
            Ok(Resource::Restore(Box::new(restore)))
        }
        _ => Err(DocumentError::UnknownKind {
            origin: origin.to_owned(),
            kind,
        }),
    }
}

fn fill_store(spec: Option<&mut Value>, store: Option<&StorageLocation>) {
    if let (Some(Value::Object(spec)), Some(store)) = (spec, store)
        && !spec.contains_key("storageLocation")
        && let Ok(store) = serde_json::to_value(store)
    {
        spec.insert("storageLocation".to_owned(), store);
    }
}

fn checked<K>(
    document: Value,
    origin: &str,
    validate: impl Fn(&K) -> Vec<FieldError>,
) -> Result<K, DocumentError>
where
    K: DeserializeOwned + CustomResourceExt,
{
    let name = document
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("(no name)");
    let kind = document
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let object = format!("{kind} '{name}'");
    let invalid = |fields| DocumentError::Invalid {
        origin: origin.to_owned(),
        object: object.clone(),
        fields,
    };
    if name == "(no name)" {
        let message = "is required: give the object a name".to_owned();
        return Err(invalid(vec![FieldError {
            path: "metadata.name".to_owned(),
            message,
        }]));
    }
    let schema = K::crd()
        .spec
        .versions
        .into_iter()
        .next()
        .and_then(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or_default();
    let unknown = super::validate::unknown_fields(&document, &schema);
    if !unknown.is_empty() {
        return Err(invalid(unknown));
    }
    let resource: K = typed(document).map_err(|field| invalid(vec![field]))?;
    let wrong = validate(&resource);
    if wrong.is_empty() {
        Ok(resource)
    } else {
        Err(invalid(wrong))
    }
}

fn typed<T: DeserializeOwned>(document: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(document).map_err(|error| FieldError {
        path: error.path().to_string(),
        message: error.inner().to_string(),
    })
}
