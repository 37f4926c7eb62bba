//! `keygen` and `unseal FILE`: a key pair for encrypted backups, and a stored file opened by hand.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use age::secrecy::ExposeSecret;
use clap::Args;
use serde::Serialize;

use super::args::Global;
use super::seal_flags::UnsealFlags;
use super::{CliError, context::Context, output};
use crate::api::ErrorClass;
use crate::kms::Keyring;
use crate::repository::Manifest;
use crate::seal::{self, Seal};

/// Make a key pair for encrypted backups.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File for the secret key; made new, readable by its owner alone.
    #[arg(default_value = "etcdguardian.key")]
    file: PathBuf,
    /// Make no new key: let the key management service open the one of this manifest, so that age itself opens the backup.
    #[arg(long, value_name = "MANIFEST")]
    unwrap: Option<PathBuf>,
    /// Key to ask in place of the one in the manifest, as its replica in another region (arn:aws:kms:…).
    #[arg(long, value_name = "KEY", requires = "unwrap")]
    kms_key: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    public_key: String,
    identity_file: String,
}

impl Keygen {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let key = match &self.unwrap {
            None => seal::generate(),
            Some(manifest) => {
                let context = Context::load(global, "warn")?;
                let seal = seal_of(manifest)?;
                let wrapped = seal.kms.ok_or_else(|| {
                    let words = format!(
                        "{} names no key management service: its backup opens with the identity or passphrase that it was sealed for",
                        manifest.display()
                    );
                    CliError::new(ErrorClass::Usage, words)
                })?;
                let keyring = keyring(&context).await?;
                let data = keyring.unwrap(&wrapped, self.kms_key.as_deref()).await?;
                data.identity_file()?
            }
        };
        let mut file = create_new(&self.file, 0o600)?;
        file.write_all(key.identity_file.expose_secret().as_bytes())?;
        file.sync_all()?;
        let shown = PublicKey {
            public_key: key.public,
            identity_file: self.file.display().to_string(),
        };
        output::print(global.output, &shown, |shown| shown.public_key.clone())?;
        if self.unwrap.is_some() {
            let file = &shown.identity_file;
            output::say(format!(
                "{file} opens this one backup: age -d -i {file} FILE | zstd -d. Delete it when that is done."
            ));
            return Ok(ExitCode::SUCCESS);
        }
        output::say(format!(
            "The secret key is in {}. Keep a copy where it survives this machine: without it no backup opens.\n\
             Put the public key above into a Secret under the key 'recipients' and name that in encryption.encryptionSecret.",
            shown.identity_file
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// Open a stored backup file: decrypt and decompress it, as `age -d | zstd -d` does.
#[derive(Debug, Args)]
pub struct Unseal {
    /// The stored file, as snapshot.db.zst.age; `-` for stdin.
    file: PathBuf,
    #[command(flatten)]
    keys: UnsealFlags,
    /// The backup's manifest, for one whose key a key management service holds.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Where to write; made new. Without it, the file's name without its endings; `-` for stdout.
    #[arg(long, short = 'O', value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Unseal {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        let mut unsealer = self.keys.unsealer(&context).await?;
        if let Some(manifest) = &self.manifest {
            let seal = seal_of(manifest)?;
            unsealer = keyring(&context).await?.opening(&unsealer, &seal).await?;
        }
        let origin = self.file.display().to_string();
        let mut stored: Box<dyn Read> = if self.file == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&self.file).map_err(|error| {
                let class = if error.kind() == io::ErrorKind::NotFound {
                    ErrorClass::NotFound
                } else {
                    ErrorClass::Failed
                };
                CliError::new(
                    class,
                    format!("{origin} cannot be opened: {error}; check the path"),
                )
            })?;
            Box::new(BufReader::with_capacity(256 * 1024, file))
        };
        let mut out = Target::create(self.target()?)?;
        unsealer.unseal_file(&mut stored, &mut out)?;
        if let Some(name) = out.keep()? {
            output::say(format!("wrote {}", name.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn target(&self) -> Result<Option<PathBuf>, CliError> {
        let needs_name = || {
            CliError::new(
                ErrorClass::Usage,
                "say where to write: add --out FILE, or --out - for stdout",
            )
        };
        match &self.out {
            Some(out) if out == Path::new("-") => Ok(None),
            Some(out) => Ok(Some(out.clone())),
            None => {
                let name = self
                    .file
                    .file_name()
                    .and_then(|name| name.to_str())
                    .ok_or_else(needs_name)?;
                let plain = name.strip_suffix(".age").unwrap_or(name);
                let plain = plain.strip_suffix(".zst").unwrap_or(plain);
                if plain == name || name == "-" {
                    return Err(needs_name());
                }
                Ok(Some(self.file.with_file_name(plain)))
            }
        }
    }
}

/// How a backup was sealed, by a copy of its manifest.
fn seal_of(file: &Path) -> Result<Seal, CliError> {
    let wrong = |class, problem: String| {
        let words = format!("the manifest {} cannot be used: {problem}", file.display());
        CliError::new(class, words)
    };
    let bytes = std::fs::read(file).map_err(|error| {
        wrong(
            ErrorClass::NotFound,
            format!("{error}; name the manifest.json beside the backup"),
        )
    })?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
        wrong(
            ErrorClass::VerificationFailed,
            format!("{error}; fetch it from the store again"),
        )
    })?;
    Ok(manifest.seal)
}

/// Asks with the identity of the config's store, else with the environment's.
async fn keyring(context: &Context) -> Result<Keyring, CliError> {
    let Some(store) = &context.config.store else {
        return Ok(Keyring::of_environment());
    };
    let secret = match &store.credentials_secret {
        Some(name) => Some(context.secrets.read("default", name).await?),
        None => None,
    };
    Ok(Keyring::of_store(store, secret.as_ref())?)
}

fn create_new(path: &Path, mode: u32) -> Result<File, CliError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| {
            let class = if error.kind() == io::ErrorKind::AlreadyExists {
                ErrorClass::Refused
            } else {
                ErrorClass::Failed
            };
            CliError::new(
                class,
                format!(
                    "{} cannot be made: {error}; nothing is overwritten, choose another name",
                    path.display()
                ),
            )
        })
}

/// Stdout, or a new file that is removed again unless it is kept.
struct Target {
    out: Option<Box<dyn Write>>,
    path: Option<PathBuf>,
}

impl Target {
    fn create(path: Option<PathBuf>) -> Result<Self, CliError> {
        let out: Box<dyn Write> = match &path {
            None => Box::new(io::stdout().lock()),
            Some(path) => Box::new(BufWriter::with_capacity(
                256 * 1024,
                create_new(path, 0o600)?,
            )),
        };
        Ok(Self {
            out: Some(out),
            path,
        })
    }

    fn keep(mut self) -> io::Result<Option<PathBuf>> {
        self.flush()?;
        Ok(self.path.take())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.out = None;
        if let Some(path) = &self.path {
            // Half a file must not look like a whole one.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |out| out.flush())
    }
}
