//! The database file of a restore: a copy of the snapshot's pages with little written anew behind them, or all rows written anew;
//! and the copies of it for further members.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use super::RestoreError;
use super::plan::Plan;
use super::proof::look;
use crate::records::{SyncingFile, WRITE_AT_ONCE};
use crate::snapshot::bolt::Database;
use crate::snapshot::bolt::build::Kept;
use crate::snapshot::datadir::DATABASE;
use crate::snapshot::datadir::database::{
    Rewrite, RewriteError, Rewritten, complete, kept_rows, rewrite,
};
use crate::snapshot::{Proof, Skimmed, Snapshot, SnapshotError};
use crate::verify::Mapped;

/// A database of which everything is written that can be before the snapshot is proved.
pub enum Begun<'a> {
    /// The snapshot's pages; what is not kept follows.
    Pages(Database<'a>, Kept<'a>, SyncingFile),
    /// All of it, and what a look at it says.
    Rows(Rewritten, Option<Skimmed>),
}

impl<'a> Begun<'a> {
    /// Writes what can be written. A damaged snapshot may come out as a damaged database: its proof says so.
    ///
    /// # Errors
    /// When the snapshot cannot be read, or the file not written.
    pub fn write(
        plan: &Plan,
        bytes: &'a [u8],
        path: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, RestoreError> {
        let image = Database::open(Snapshot::split(bytes).image).map_err(SnapshotError::from)?;
        let wanted = wanted(plan);
        let shared = RestoreError::file("share", path);
        let mut file = SyncingFile::new(new_file(path)?).map_err(shared)?;
        // Where the way to the rows is broken the other way says so by its place.
        if let Ok(Some(kept)) = kept_rows(&image, &wanted) {
            let size = usize::try_from(image.size()).unwrap_or(usize::MAX);
            let pages = image.image().get(..size).unwrap_or(image.image());
            for piece in pages.chunks(WRITE_AT_ONCE) {
                file.write_all(piece)
                    .map_err(RestoreError::file("write", path))?;
                progress(piece.len() as u64);
            }
            return Ok(Self::Pages(image, kept, file));
        }
        let out = BufWriter::with_capacity(WRITE_AT_ONCE, file);
        let rewritten = rewrite(&image, &wanted, out, &|count| progress(count));
        let (out, written) = rewritten.map_err(|error| failed(plan, error))?;
        let skimmed = sync_and_look(plan, &written, out, path)?;
        Ok(Self::Rows(written, skimmed))
    }

    /// Writes the rest, of a snapshot that is proved, and looks at what the file holds while the disk takes the rest of it.
    ///
    /// # Errors
    /// When the file cannot be written, is not sound or holds something else.
    pub fn complete(
        self,
        plan: &Plan,
        proof: &Proof,
        path: &Path,
    ) -> Result<(Rewritten, Option<Skimmed>), RestoreError> {
        match self {
            Self::Rows(written, skimmed) => Ok((written, skimmed)),
            Self::Pages(image, kept, file) => {
                let out = BufWriter::with_capacity(WRITE_AT_ONCE, file);
                let completed = complete(&image, &wanted(plan), &kept, proof, out);
                let (out, written) = completed.map_err(|error| failed(plan, error))?;
                let skimmed = sync_and_look(plan, &written, out, path)?;
                Ok((written, skimmed))
            }
        }
    }
}

fn wanted(plan: &Plan) -> Rewrite<'_> {
    Rewrite {
        cluster: &plan.cluster,
        kept_to: plan.revisions.kept_to,
        raised_to: plan.bump.map(|_| plan.revisions.starts_at),
    }
}

fn failed(plan: &Plan, error: RewriteError) -> RestoreError {
    match error {
        RewriteError::Fault(fault) => RestoreError::Damaged {
            source_name: plan.source.clone(),
            problem: fault.to_string(),
        },
        RewriteError::Build(error) => RestoreError::Build(error),
    }
}

fn sync_and_look(
    plan: &Plan,
    written: &Rewritten,
    out: BufWriter<SyncingFile>,
    path: &Path,
) -> Result<Option<Skimmed>, RestoreError> {
    let file = out
        .into_inner()
        .map_err(|error| RestoreError::file("write", path)(error.into_error()))?;
    thread::scope(|scope| {
        let syncing = scope.spawn(|| file.finish());
        let skimmed = look(plan, written, path);
        let broke_off = || std::io::Error::other("the syncing broke off");
        let synced = syncing.join().unwrap_or_else(|_| Err(broke_off()));
        synced.map_err(RestoreError::file("sync the file", path))?;
        skimmed
    })
}

/// Creates a file that only its owner can read; it must not exist.
pub(super) fn new_file(path: &Path) -> Result<File, RestoreError> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(RestoreError::file("create", path))
}

/// The other members' databases, which are the first one's byte for byte, side by side.
pub(super) fn copy_databases(from: &Path, folders: &[PathBuf]) -> Result<(), RestoreError> {
    if folders.is_empty() {
        return Ok(());
    }
    let proved = Mapped::open(from).map_err(RestoreError::file("read back", from))?;
    thread::scope(|scope| {
        let copies: Vec<_> = folders
            .iter()
            .map(|folder| scope.spawn(|| copy_database(from, &folder.join(DATABASE), &proved)))
            .collect();
        copies.into_iter().try_for_each(|copy| {
            copy.join().unwrap_or_else(|_| {
                Err(RestoreError::Unproved {
                    problem: "the copying of the database broke off".into(),
                })
            })
        })
    })
}

/// A copy, compared while the disk takes it. A file system that can let files share their bytes is asked to first.
fn copy_database(from: &Path, to: &Path, proved: &Mapped) -> Result<(), RestoreError> {
    let copying = || RestoreError::file("copy the database to", to);
    let copy = new_file(to)?;
    let shared = File::open(from).map_err(copying())?;
    let written = copy.try_clone().map_err(copying())?;
    let mut syncing = SyncingFile::new(written).map_err(copying())?;
    if rustix::fs::ioctl_ficlone(&copy, &shared).is_err() {
        for piece in proved.bytes().chunks(WRITE_AT_ONCE) {
            syncing.write_all(piece).map_err(copying())?;
        }
    }
    let (synced, same) = thread::scope(|scope| {
        let syncing = scope.spawn(|| syncing.finish());
        let same = Mapped::open(to).map(|copy| copy.bytes() == proved.bytes());
        let broke_off = || std::io::Error::other("the syncing broke off");
        (syncing.join().unwrap_or_else(|_| Err(broke_off())), same)
    });
    synced.map_err(copying())?;
    if same.map_err(RestoreError::file("read back", to))? {
        return Ok(());
    }
    Err(RestoreError::Unproved {
        problem: format!("the copy {} is not what was copied", to.display()),
    })
}
