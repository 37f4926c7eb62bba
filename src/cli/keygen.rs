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
use crate::seal;

/// Make a key pair for encrypted backups.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File for the secret key; made new, readable by its owner alone.
    #[arg(default_value = "etcdguardian.key")]
    file: PathBuf,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    public_key: String,
    identity_file: String,
}

impl Keygen {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let key = seal::generate();
        let mut file = create_new(&self.file, 0o600)?;
        file.write_all(key.identity_file.expose_secret().as_bytes())?;
        file.sync_all()?;
        let shown = PublicKey {
            public_key: key.public,
            identity_file: self.file.display().to_string(),
        };
        output::print(global.output, &shown, |shown| shown.public_key.clone())?;
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
    /// Where to write; made new. Without it, the file's name without its endings; `-` for stdout.
    #[arg(long, short = 'O', value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Unseal {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        let unsealer = self.keys.unsealer(&context).await?;
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
