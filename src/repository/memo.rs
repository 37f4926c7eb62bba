//! Manifests of a cluster that were read before, in a file of this machine. A manifest is never rewritten, so one that the listing shows
//! as it was then (key, size, time and the store's own tag) need not be asked for again. What there is, the listing alone says: without
//! this file, or with a wrong one, the catalogue is the same and takes longer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};

use super::bucket::Listed;
use super::manifest::{self, MAX_MANIFEST_BYTES};
use super::{Key, Manifest};
use crate::api::StorageLocation;

/// Fewer manifests than this are read from the store each time.
const WORTH_A_FILE: usize = 256;
/// A file is written anew when a sixteenth of the catalogue was not in it.
const NEW_PART: usize = 16;
/// A half-written file this old is of a process that was killed.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// A file that was not written for so long is of a location that has gone, or that hardly changes and is soon read.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 3600);
/// Another version may know other fields.
const HEAD: &str = concat!("etcdguardian ", env!("CARGO_PKG_VERSION"), " catalogue 2\n");

/// The file of one cluster in one location.
#[derive(Debug, Clone)]
pub(super) struct Memo {
    file: PathBuf,
}

/// What a listing says of a manifest, as one word.
pub(super) fn stamp(listed: &Listed) -> Option<String> {
    let tag = listed.tag.as_ref()?;
    let plain = |letter: char| !letter.is_whitespace() && !letter.is_control();
    tag.chars()
        .all(plain)
        .then(|| format!("{}/{}/{tag}", listed.size, listed.written))
}

/// Where such files lie: as `ETCDGUARDIAN_CACHE_DIR` says (nowhere when it is empty), else where the system keeps what can be had again.
pub(super) fn folder(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(named) = variable("ETCDGUARDIAN_CACHE_DIR") {
        return (!named.is_empty()).then(|| PathBuf::from(named));
    }
    let absolute = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        path.is_absolute().then_some(path)
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("etcdguardian"))
}

impl Memo {
    pub fn new(folder: &Path, location: &StorageLocation, cluster: &str) -> Option<Self> {
        let place = serde_json::to_string(&(location, cluster)).ok()?;
        let name = hex::encode(digest(&SHA256, place.as_bytes()));
        Some(Self {
            file: folder.join(name),
        })
    }

    /// The manifests in the file that are listed as they were; each is taken out of `listed`, by its stamp.
    pub fn recall(&self, listed: &mut HashMap<Key, String>) -> Vec<Manifest> {
        let mut found = Vec::new();
        match self.read(listed, &mut found) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // What was read until then is good: each line is checked by itself.
            Err(error) => {
                tracing::debug!(file = %self.file.display(), %error, "known manifests end here");
            }
        }
        found
    }

    fn read(&self, listed: &mut HashMap<Key, String>, found: &mut Vec<Manifest>) -> io::Result<()> {
        let plain = zstd::Decoder::new(File::open(&self.file)?)?;
        let mut reader = BufReader::with_capacity(1 << 16, plain);
        let mut line = Vec::new();
        let mut next = |line: &mut Vec<u8>| {
            line.clear();
            let most = 2 * MAX_MANIFEST_BYTES;
            reader.by_ref().take(most).read_until(b'\n', line)
        };
        next(&mut line)?;
        if line != HEAD.as_bytes() {
            return Ok(());
        }
        while next(&mut line)? > 0 {
            let mut words = line.splitn(4, |byte| *byte == b'\t');
            let mut text = || std::str::from_utf8(words.next()?).ok();
            let (Some(key), Some(stamp), Some(sum)) = (text().and_then(Key::parse), text(), text())
            else {
                continue;
            };
            if listed.get(&key).is_none_or(|is| is != stamp) {
                continue;
            }
            // Held to the same rules as one that comes from the store.
            let json = words.next().and_then(|json| json.strip_suffix(b"\n"));
            let whole = json.filter(|json| sum_of(json) == sum);
            let decoded = whole.map(|json| manifest::decode(&key, json));
            if let Some(Ok(manifest)) = decoded {
                listed.remove(&key);
                found.push(manifest);
            }
        }
        Ok(())
    }

    /// Whether so many that had to be read are worth a new file.
    pub fn is_due(read: usize, all: usize) -> bool {
        read >= WORTH_A_FILE.max(all / NEW_PART)
    }

    /// Writes a new file in place of the old one.
    pub fn keep<'a>(&self, manifests: impl Iterator<Item = (&'a Manifest, &'a str)>) {
        if let Err(error) = self.write(manifests) {
            tracing::debug!(file = %self.file.display(), %error, "known manifests are not kept");
        }
    }

    fn write<'a>(
        &self,
        manifests: impl Iterator<Item = (&'a Manifest, &'a str)>,
    ) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder)?;
            forget(folder)?;
        }
        let part = self.file.with_extension("part");
        if let Ok(meta) = part.metadata()
            && let Ok(age) = SystemTime::now().duration_since(meta.modified()?)
            && age > GIVEN_UP
        {
            std::fs::remove_file(&part)?;
        }
        // Another process that writes it at this moment does as well.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        let written = fill(file, manifests).and_then(|()| std::fs::rename(&part, &self.file));
        if written.is_err() {
            // Best effort: the failure that counts is the one above.
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

/// What shows that a line is as it was written: the file's own checksum stands at its end, and is read too late.
fn sum_of(json: &[u8]) -> String {
    hex::encode(digest(&SHA256, json))
}

/// Removes the files of locations that nobody has read for long.
fn forget(folder: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let is_ours = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let meta = file.metadata()?;
        let age = SystemTime::now().duration_since(meta.modified()?);
        if meta.is_file()
            && file.file_name().to_str().is_some_and(is_ours)
            && age.is_ok_and(|age| age > FORGOTTEN)
        {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn fill<'a>(
    file: File,
    manifests: impl Iterator<Item = (&'a Manifest, &'a str)>,
) -> io::Result<()> {
    let mut out = zstd::Encoder::new(BufWriter::new(file), 1)?;
    out.include_checksum(true)?;
    out.write_all(HEAD.as_bytes())?;
    for (manifest, stamp) in manifests {
        let key = Key::of_manifest(manifest).map_err(io::Error::other)?;
        let json = serde_json::to_vec(manifest)?;
        write!(out, "{key}\t{stamp}\t{}\t", sum_of(&json))?;
        out.write_all(&json)?;
        out.write_all(b"\n")?;
    }
    out.finish()?.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifests(count: i64) -> Vec<Manifest> {
        let one = |revision: i64| {
            let id = format!("20260101T000000Z-{revision}");
            let cluster = "cdf818194e3a8c32";
            let zeros = "0".repeat(64);
            serde_json::from_value(serde_json::json!({
                "formatVersion": 1, "id": id, "kind": "Full", "clusterId": cluster, "clusterName": "c",
                "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
                "runId": id, "created": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:00Z",
                "revision": revision, "compactRevision": -1, "keyCount": 1,
                "dataKey": format!("{cluster}/v1/full/{id}/snapshot.db"), "rawSize": 1, "storedSize": 1,
                "plainSha256": zeros, "storedSha256": zeros, "compression": "None", "level": "Verified", "toolVersion": "0",
            }))
            .unwrap()
        };
        (1..=count).map(one).collect()
    }

    fn listed(manifests: &[Manifest], stamp: &str) -> HashMap<Key, String> {
        let key = |manifest: &Manifest| (Key::of_manifest(manifest).unwrap(), stamp.to_owned());
        manifests.iter().map(key).collect()
    }

    #[test]
    fn what_is_listed_as_it_was_is_recalled_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let location = serde_json::json!({"provider": "S3", "bucket": "b"});
        let location: StorageLocation = serde_json::from_value(location).unwrap();
        let memo = Memo::new(&folder.path().join("new"), &location, "c").unwrap();
        let all = manifests(3);
        assert!(memo.recall(&mut listed(&all, "1/2/tag")).is_empty());
        memo.keep(all.iter().map(|one| (one, "1/2/tag")));
        let mut asked = listed(&all[..2], "1/2/tag");
        assert_eq!(memo.recall(&mut asked), all[..2], "the third one is gone");
        assert!(asked.is_empty());
        let mut asked = listed(&all, "1/3/tag");
        assert!(memo.recall(&mut asked).is_empty(), "written anew");
        assert_eq!(asked.len(), 3);

        // A file that is cut or changed is worth what can still be believed of it.
        let bytes = std::fs::read(&memo.file).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x41;
            broken.truncate(bytes.len() - at % 7);
            std::fs::write(&memo.file, &broken).unwrap();
            let found = memo.recall(&mut listed(&all, "1/2/tag"));
            assert!(found.iter().all(|one| all.contains(one)), "{found:?}");
        }
        // Half a file of a process that was killed is in nobody's way for long.
        let part = memo.file.with_extension("part");
        let file = File::create(&part).unwrap();
        memo.keep(all.iter().map(|one| (one, "1/9/tag")));
        assert!(part.exists(), "somebody may be writing it");
        file.set_modified(SystemTime::now() - 2 * GIVEN_UP).unwrap();
        memo.keep(all.iter().map(|one| (one, "1/9/tag")));
        assert_eq!(memo.recall(&mut listed(&all, "1/9/tag")).len(), 3);
        assert!(!part.exists());
        // A location that is not read any more.
        let other = Memo::new(memo.file.parent().unwrap(), &location, "other").unwrap();
        let file = File::options().write(true).open(&memo.file).unwrap();
        file.set_modified(SystemTime::now() - 2 * FORGOTTEN)
            .unwrap();
        other.keep(all.iter().map(|one| (one, "1/9/tag")));
        assert!(!memo.file.exists() && other.file.exists());
    }

    #[test]
    fn the_folder_is_where_caches_are() {
        let of = |pairs: &'static [(&str, &str)]| {
            folder(move |name| {
                let found = pairs.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(of(&[("HOME", "/h")]), path("/h/.cache/etcdguardian"));
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]),
            path("/c/etcdguardian")
        );
        assert_eq!(of(&[("ETCDGUARDIAN_CACHE_DIR", "/x")]), path("/x"));
        assert_eq!(of(&[("HOME", "/h"), ("ETCDGUARDIAN_CACHE_DIR", "")]), None);
        assert_eq!(of(&[("HOME", "")]), None);
    }
}
