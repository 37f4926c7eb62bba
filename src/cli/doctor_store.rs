//! What `doctor` tries of stores, and of the keys that backups are sealed with.

use std::sync::Arc;

use jiff::SignedDuration;

use super::CliError;
use super::context::Context;
use super::doctor::Examined;
use super::output;
use crate::api::{Compression, Encryption, ErrorClass, StorageLocation};
use crate::repository::{Probe, Repository, RepositoryError, SilentObserver};

/// Stores refuse requests from a clock that is a quarter of an hour off.
const CLOCK_WRONG: SignedDuration = SignedDuration::from_mins(10);
const CLOCK_OFF: SignedDuration = SignedDuration::from_secs(60);

/// Tries a store by writing, reading and deleting an object.
pub async fn store(
    context: &Context,
    location: &StorageLocation,
    namespace: &str,
) -> Vec<Examined> {
    let name = format!("store {location}");
    let probed = async {
        let observer = Arc::new(SilentObserver);
        let secrets = context.secrets.as_ref();
        Repository::open(location, namespace, secrets, observer)
            .await?
            .probe()
            .await
    };
    match probed.await {
        Ok(probe) => vec![written(name, &probe), clock(location, probe.clock_ahead)],
        Err(error) => vec![refused(name, error)],
    }
}

fn written(name: String, probe: &Probe) -> Examined {
    if probe.create_only {
        return Examined::good(name, "wrote, refused to overwrite, read back, deleted");
    }
    Examined::warning(
        name,
        "it overwrites although it was told to create only",
        "let one process alone write to this prefix, or use a store with conditional writes",
    )
}

fn refused(name: String, error: RepositoryError) -> Examined {
    let fix = match error.class() {
        ErrorClass::Credentials => {
            "the credentials need to write, read, list and delete below this prefix"
        }
        ErrorClass::NotFound => "create the bucket, or correct its name and region",
        ErrorClass::StoreUnavailable => {
            "look at endpoint, DNS, proxy and firewall; for a directory at its rights and space"
        }
        _ => "correct the storage location",
    };
    let error = CliError::from(error);
    Examined::failed(name, error.class, error.message, fix)
}

fn clock(location: &StorageLocation, ahead: SignedDuration) -> Examined {
    let name = format!("clock against {location}");
    let off = ahead.abs();
    let side = if ahead.is_negative() {
        "ahead of"
    } else {
        "behind"
    };
    let message = if off < SignedDuration::from_secs(1) {
        "this machine and the store agree".to_owned()
    } else {
        format!("this machine is {} {side} the store", output::span(off))
    };
    let fix = "run a time service (chrony, systemd-timesyncd) on this machine";
    match () {
        () if off > CLOCK_WRONG => Examined::failed(name, ErrorClass::Failed, message, fix),
        () if off > CLOCK_OFF => Examined::warning(name, message, fix),
        () => Examined::good(name, message),
    }
}

/// Tries what backups are sealed with: a key service is asked for a data key, a Secret is read.
pub async fn key(
    context: &Context,
    encryption: &Encryption,
    location: &StorageLocation,
    namespace: &str,
) -> Examined {
    let service = encryption.kms_key_id.as_deref();
    let held = encryption.encryption_secret.as_deref().unwrap_or_default();
    let name = match service {
        Some(key) => format!("key {key}"),
        None => format!("encryption secret {held}"),
    };
    let tried = async {
        let observer = Arc::new(SilentObserver);
        let secrets = context.secrets.as_ref();
        let repository = Repository::open(location, namespace, secrets, observer).await?;
        let keyring = repository.keyring();
        let compression = Compression::Zstd;
        keyring
            .sealing(Some(encryption), compression, namespace, secrets)
            .await?;
        Ok::<(), CliError>(())
    };
    match tried.await {
        Ok(()) if service.is_some() => Examined::good(name, "it made a data key"),
        Ok(()) => Examined::good(name, "it holds a key that seals"),
        Err(error) => Examined::of_error(name, error),
    }
}
