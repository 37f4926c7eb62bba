//! Samples etcd's Status and keeps the history in a file: a line a sample, appended and synced, so that a kill loses at
//! most the line being written; rewritten through a temporary file when it has grown to twice what is kept.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::samples::{Exposure, Sample, Samples, Taken};
use super::series::{Series, SeriesError};
use super::{HISTORY_CELLS, SignalError, StatusSource};

/// The first line: format and version.
const HEADER: &str = "etcdguardian-samples 1";

/// Samples etcd's Status and keeps the history in a file.
pub struct Sampler {
    file: PathBuf,
    samples: Samples,
    /// Lines in the file, to know when it is worth rewriting.
    lines: usize,
    /// The file is absent, torn or holds what was dropped.
    rewrite: bool,
}

impl Sampler {
    /// Opens the history; one that cannot be read is set aside, which the second value says.
    #[must_use]
    pub fn open(file: &Path, step_seconds: u32) -> (Self, Option<String>) {
        let mut sampler = Self {
            file: file.to_owned(),
            samples: Samples::new(step_seconds),
            lines: 0,
            rewrite: true,
        };
        let text = match std::fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (sampler, None),
            Err(error) => {
                let warning = format!(
                    "the sample history {} cannot be read ({error}): starting without it",
                    file.display()
                );
                return (sampler, Some(warning));
            }
        };
        match sampler.load(&text) {
            Ok(()) => (sampler, None),
            Err(line) => {
                let aside = file.with_extension("damaged");
                let kept = sampler.samples.len();
                let place = match std::fs::rename(file, &aside) {
                    Ok(()) => format!("set aside as {}", aside.display()),
                    Err(error) => format!("it cannot be set aside ({error})"),
                };
                sampler.rewrite = true;
                let warning = format!(
                    "the sample history {} is damaged at line {line}, {place}: going on with the {kept} samples before it",
                    file.display()
                );
                (sampler, Some(warning))
            }
        }
    }

    /// Takes a sample and saves it.
    ///
    /// # Errors
    /// When etcd does not answer, or the file cannot be written; the sample is taken in memory even then.
    pub async fn tick(
        &mut self,
        etcd: &dyn StatusSource,
        now: Timestamp,
    ) -> Result<Sample, SignalError> {
        let status = etcd.status().await?;
        // The file keeps milliseconds; so does memory, so that a restart changes nothing.
        let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let sample = Sample {
            at,
            cluster_id: status.cluster_id,
            revision: status.revision,
            db_size: status.db_size,
        };
        self.take(sample)?;
        Ok(sample)
    }

    /// Takes a sample that was read elsewhere, and saves it.
    ///
    /// # Errors
    /// When the file cannot be written; the sample is taken in memory even then.
    pub fn take(&mut self, sample: Sample) -> Result<(), SignalError> {
        let now = sample.at;
        if let Taken::Rewound(dropped) = self.samples.take(sample) {
            tracing::warn!(dropped, %now, "the clock went back: samples from its future are dropped");
            self.keep_a_copy(dropped);
            self.rewrite = true;
        }
        self.save(&sample).map_err(|source| {
            self.rewrite = true;
            SignalError::History {
                path: self.file.clone(),
                source,
            }
        })
    }

    /// The history on a grid.
    ///
    /// # Errors
    /// When the history does not fit one.
    pub fn series(&self, step_seconds: u32) -> Result<Series, SeriesError> {
        self.samples.series(step_seconds)
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<Sample> {
        self.samples.newest()
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.samples.iter().copied()
    }

    /// Takes the samples of an earlier history, when there are none yet; they are saved with the next one.
    pub fn go_on_from(&mut self, earlier: impl IntoIterator<Item = Sample>) {
        if self.samples.len() > 0 {
            return;
        }
        for sample in earlier {
            self.samples.take(sample);
        }
        self.rewrite = true;
    }

    /// Changes since a revision of a cluster; `None` before the first sample.
    #[must_use]
    pub fn exposure_since(&self, cluster_id: u64, revision: i64) -> Option<Exposure> {
        self.samples.exposure_since(cluster_id, revision)
    }

    /// Takes the lines of a file in; a last line without its end was being written when the process died.
    fn load(&mut self, text: &str) -> Result<(), usize> {
        let mut lines = text.split_inclusive('\n').enumerate();
        let Some((_, header)) = lines.next() else {
            return Ok(());
        };
        if header != format!("{HEADER}\n") {
            return if HEADER.starts_with(header) {
                Ok(())
            } else {
                Err(1)
            };
        }
        self.rewrite = false;
        for (index, line) in lines {
            let Some(line) = line.strip_suffix('\n') else {
                self.rewrite = true;
                break;
            };
            self.samples.take(parsed(line).ok_or(index + 1)?);
            self.lines += 1;
        }
        Ok(())
    }

    fn save(&mut self, sample: &Sample) -> io::Result<()> {
        if self.rewrite || self.lines >= 2 * HISTORY_CELLS {
            return self.rewrite();
        }
        let mut file = match File::options().append(true).open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.rewrite(),
            Err(error) => return Err(error),
        };
        file.write_all(line(sample).as_bytes())?;
        file.sync_data()?;
        self.lines += 1;
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let folder = self
            .file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut text = format!("{HEADER}\n");
        for sample in self.samples.iter() {
            text.push_str(&line(sample));
        }
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()?;
        self.lines = self.samples.len();
        self.rewrite = false;
        Ok(())
    }

    /// A clock that went back wrongly would cost the history: the file as it was stays beside the new one.
    fn keep_a_copy(&self, dropped: usize) {
        if dropped < 2 {
            return;
        }
        let copy = self.file.with_extension("before-clock-jump");
        if let Err(error) = std::fs::copy(&self.file, &copy) {
            tracing::warn!(%error, "the history before the clock's jump could not be kept");
        }
    }
}

/// Milliseconds, cluster, revision, size.
fn line(sample: &Sample) -> String {
    format!(
        "{} {:x} {} {}\n",
        sample.at.as_millisecond(),
        sample.cluster_id,
        sample.revision,
        sample.db_size
    )
}

fn parsed(line: &str) -> Option<Sample> {
    let mut fields = line.split(' ');
    let sample = Sample {
        at: Timestamp::from_millisecond(fields.next()?.parse().ok()?).ok()?,
        cluster_id: u64::from_str_radix(fields.next()?, 16).ok()?,
        revision: fields.next()?.parse().ok()?,
        db_size: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(sample)
}
