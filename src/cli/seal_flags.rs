//! Flags that say which key opens an encrypted backup; a key itself is never given on the command line.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use super::context::Context;
use crate::api::ErrorClass;
use crate::seal::Unsealer;

/// Which key opens an encrypted backup.
#[derive(Debug, Clone, Default, Args)]
pub struct UnsealFlags {
    /// File with age identities (secret keys), as keygen writes it; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// File with the passphrase.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Secret of secretsDir with the key identities or passphrase.
    #[arg(long, value_name = "SECRET")]
    pub encryption_secret: Option<String>,
    /// Key to ask in place of the one that wrapped the backup's, as its replica in another region (arn:aws:kms:…).
    #[arg(long, value_name = "KEY")]
    pub kms_key: Option<String>,
}

impl UnsealFlags {
    /// The unsealer of the flags; one that opens only what is not encrypted when none is given.
    pub async fn unsealer(&self, context: &Context) -> Result<Unsealer, CliError> {
        let mut unsealer = self.unsealer_of_files()?;
        if let Some(name) = &self.encryption_secret {
            let secret = context.secrets.read("default", name).await?;
            let origin = |key: &str| format!("secret '{name}', key '{key}'");
            // Checks that the Secret holds a key that opens something.
            crate::seal::Unsealer::from_secret(name, &secret)?;
            if let Some(text) = secret.text("identities")? {
                unsealer.add_identities(text, &origin("identities"))?;
            }
            if let Some(text) = secret.text("passphrase")? {
                unsealer.set_passphrase(text, &origin("passphrase"))?;
            }
        }
        Ok(unsealer)
    }

    /// The unsealer of the files alone.
    pub fn unsealer_of_files(&self) -> Result<Unsealer, CliError> {
        let mut unsealer = Unsealer::default();
        for file in &self.identity {
            unsealer.add_identities(&read_key_file(file)?, &file.display().to_string())?;
        }
        if let Some(file) = &self.passphrase_file {
            unsealer.set_passphrase(&read_key_file(file)?, &file.display().to_string())?;
        }
        if let Some(key) = &self.kms_key {
            crate::kms::KeyName::parse(key)?;
            unsealer.set_kms_key(key);
        }
        Ok(unsealer)
    }
}

fn read_key_file(file: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|error| {
        CliError::new(
            ErrorClass::Credentials,
            format!(
                "the key file {} cannot be read: {error}; check its path and rights",
                file.display()
            ),
        )
    })
}
