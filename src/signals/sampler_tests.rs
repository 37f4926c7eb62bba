//! Tests of the sampler's file: it survives kills, damage, full disks and its own bound.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::sampler::Sampler;
use super::{HISTORY_CELLS, SignalError, StatusSource};
use crate::api::ErrorClass;
use crate::etcd::{EtcdError, MemberStatus};

/// An etcd whose revision is set by the test; negative: it does not answer.
struct Fake(AtomicI64);

#[async_trait]
impl StatusSource for Fake {
    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        let revision = self.0.load(Ordering::Relaxed);
        if revision < 0 {
            return Err(EtcdError::Unavailable {
                attempts: "http://gone: refused".to_owned(),
            });
        }
        Ok(MemberStatus::alone_at(revision))
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

async fn ticks(file: &Path, from: i64, count: i64) -> Sampler {
    let (mut sampler, _) = Sampler::open(file, 60);
    for index in from..from + count {
        let etcd = Fake(AtomicI64::new(index * 10));
        sampler.tick(&etcd, second(index * 60)).await.unwrap();
    }
    sampler
}

#[tokio::test]
async fn a_restart_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/samples");
    let before = ticks(&file, 0, 5).await;
    let (after, warning) = Sampler::open(&file, 60);
    assert_eq!(warning, None);
    assert_eq!(after.newest(), before.newest());
    assert_eq!(
        after.series(60).unwrap().writes(),
        before.series(60).unwrap().writes()
    );
    assert_eq!(after.series(60).unwrap().writes(), [10.0 / 60.0; 4]);
    assert_eq!(after.exposure_since(0xfeed, 15).unwrap().changes, 25);
}

#[tokio::test]
async fn a_kill_at_any_byte_loses_at_most_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("samples");
    ticks(&file, 1_000_000, 3).await;
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let (sampler, warning) = Sampler::open(&file, 60);
        assert_eq!(warning, None, "{length} bytes");
        let lines = whole[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let last = i64::try_from(lines).unwrap() - 2;
        let newest = sampler.newest().map(|sample| sample.at);
        assert_eq!(
            newest,
            (last >= 0).then(|| second((1_000_000 + last) * 60)),
            "{length} bytes"
        );
        // The next sample must not continue the torn line.
        ticks(&file, 1_000_003, 1).await;
        let (sampler, warning) = Sampler::open(&file, 60);
        assert_eq!(
            (warning, sampler.newest().unwrap().revision),
            (None, 10_000_030)
        );
    }
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_its_good_beginning_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("samples");
    ticks(&file, 0, 4).await;
    let text = std::fs::read_to_string(&file).unwrap();
    for (damage, kept) in [
        (text.replace("120000 feed", "12oooo feed"), Some(60)),
        (
            text.replace("etcdguardian-samples 1", "something else"),
            None,
        ),
        ("\0\u{1}binary\n\n".to_owned(), None),
    ] {
        std::fs::write(&file, &damage).unwrap();
        let (sampler, warning) = Sampler::open(&file, 60);
        assert!(warning.unwrap().contains("set aside as"));
        assert_eq!(
            std::fs::read_to_string(file.with_extension("damaged")).unwrap(),
            damage
        );
        assert_eq!(sampler.newest().map(|sample| sample.at), kept.map(second));
        drop(ticks(&file, 10, 1).await);
        assert_eq!(Sampler::open(&file, 60).1, None, "the new file is good");
    }
}

#[tokio::test]
async fn the_file_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("samples");
    // As if it had grown for a long time: the next sample makes it as short as what is kept.
    let mut text = "etcdguardian-samples 1\n".to_owned();
    for index in 0..2 * HISTORY_CELLS {
        text.push_str(&format!("{} feed {index} 4096\n", index * 60_000));
    }
    std::fs::write(&file, text).unwrap();
    let at = i64::try_from(2 * HISTORY_CELLS).unwrap();
    let sampler = ticks(&file, at, 1).await;
    let lines = std::fs::read_to_string(&file).unwrap().lines().count();
    assert_eq!(lines, HISTORY_CELLS + 1);
    assert!(std::fs::metadata(&file).unwrap().len() < 700_000);
    assert_eq!(sampler.series(60).unwrap().len(), HISTORY_CELLS - 1);
}

#[tokio::test]
async fn a_clock_that_went_back_keeps_a_copy_of_what_it_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("samples");
    ticks(&file, 100, 5).await;
    let sampler = ticks(&file, 50, 1).await;
    assert_eq!(sampler.newest().unwrap().at, second(3000));
    let (again, _) = Sampler::open(&file, 60);
    assert_eq!(again.newest(), sampler.newest());
    let copy = std::fs::read_to_string(file.with_extension("before-clock-jump")).unwrap();
    assert_eq!(copy.lines().count(), 6);
}

#[tokio::test]
async fn without_a_place_to_write_the_history_lives_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    let (mut sampler, _) = Sampler::open(&blocked.join("samples"), 60);
    let error = sampler
        .tick(&Fake(AtomicI64::new(7)), second(60))
        .await
        .unwrap_err();
    assert!(matches!(error, SignalError::History { .. }));
    assert_ne!(error.class(), ErrorClass::EtcdUnavailable);
    assert_eq!(sampler.newest().unwrap().revision, 7);
}

#[tokio::test]
async fn an_etcd_that_does_not_answer_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sampler = ticks(&folder.path().join("samples"), 0, 2).await;
    let before = sampler.newest();
    let error = sampler
        .tick(&Fake(AtomicI64::new(-1)), second(600))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::EtcdUnavailable);
    assert_eq!(sampler.newest(), before);
}
