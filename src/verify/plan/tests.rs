//! Evidence in, level out: every way in which a check can fail or not be made.

#![allow(clippy::unwrap_used)]

use super::*;

fn status() -> Status {
    Status {
        revision: 100,
        compact_revision: 40,
        total_keys: 7,
        rows: 60,
        db_size: 8192,
        file_size: 8224,
        digest: Digest::Ok,
        hash: 1,
        storage_version: None,
        leases: 0,
        alarms: Vec::new(),
        auth_enabled: false,
        auth_revision: 1,
    }
}

fn proof() -> Proof {
    Proof {
        status: Some(status()),
        rows_checksum: None,
        rows_bytes: 0,
        missing_leases: Default::default(),
        shares: Vec::new(),
        image_sha256: "ab".repeat(32),
        hash_kv: None,
        compacted_hash: None,
        findings: Vec::new(),
    }
}

fn hash(value: u32, revision: i64, compact_revision: i64) -> HashKv {
    HashKv {
        hash: value,
        revision,
        compact_revision,
    }
}

fn answered(theirs: u32, ours: u32) -> Live {
    Live::Answered {
        live: LiveHash {
            hash: hash(theirs, 100, 40),
            member_id: 0xbeef,
        },
        own: hash(ours, 100, 40),
    }
}

fn failed(verdict: &Verdict) -> Vec<&str> {
    verdict
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| check.name.as_str())
        .collect()
}

#[test]
fn hashes_are_compared_only_where_they_can_be() {
    let cases = [
        // (revision, compacted) of the member's answer
        (100, 40, Some(40)),
        (100, 60, Some(60)),
        (100, 100, Some(100)),
        // A cached hash from before the last compaction.
        (100, 39, None),
        (100, -1, None),
        // Compacted since.
        (100, 101, None),
        // Another revision.
        (101, 40, None),
        (99, 40, None),
    ];
    for (revision, compacted, expected) in cases {
        let live = hash(1, revision, compacted);
        assert_eq!(comparable(&status(), &live).ok(), expected, "{live:?}");
    }
    let mut never = status();
    for own in [-1, 0] {
        never.compact_revision = own;
        for theirs in [-1, 0] {
            assert!(comparable(&never, &hash(1, 100, theirs)).is_ok());
        }
    }
}

#[test]
fn the_level_follows_from_the_checks() {
    let sent = "ab".repeat(32);
    let alone = judge(&proof(), Some(&sent), &Live::NotAsked);
    assert!(alone.ok());
    assert_eq!(alone.level, Level::Verified);
    assert_eq!(alone.checks.len(), 3);

    let same = judge(&proof(), Some(&sent), &answered(5, 5));
    assert_eq!((same.ok(), same.level), (true, Level::Consistent));

    let other = judge(&proof(), Some(&sent), &answered(5, 6));
    assert_eq!((other.ok(), other.level), (false, Level::Stored));
    assert_eq!(failed(&other), ["hashkv"]);
    assert!(other.problem().contains("beef"), "{}", other.problem());

    let unclear = judge(&proof(), None, &Live::Incomparable("why".to_owned()));
    assert_eq!((unclear.ok(), unclear.level), (true, Level::Verified));
    assert!(unclear.checks[3].message.starts_with("incomparable"));
}

#[test]
fn without_live_keys_a_different_hash_says_nothing() {
    let mut empty = proof();
    empty.status.as_mut().unwrap().total_keys = 0;
    let verdict = judge(&empty, None, &answered(5, 6));
    assert_eq!((verdict.ok(), verdict.level), (true, Level::Verified));
}

#[test]
fn what_is_wrong_lands_in_its_check() {
    let finding = |severity, place: &str| Finding {
        severity,
        code: "Code".to_owned(),
        place: place.to_owned(),
        message: "broken".to_owned(),
    };
    let judged = |proof: &Proof| {
        let verdict = judge(proof, None, &answered(5, 5));
        let failed = failed(&verdict).join(",");
        assert_eq!(verdict.ok(), verdict.level != Level::Stored);
        failed
    };
    let mut page = proof();
    page.findings = vec![finding(Severity::Error, "page 3")];
    assert_eq!(judged(&page), "structure");
    let mut row = proof();
    row.findings = vec![finding(Severity::Error, "row 12 (revision 4.0)")];
    assert_eq!(judged(&row), "rows");
    let mut warned = proof();
    warned.findings = vec![finding(Severity::Warning, "bucket lease")];
    assert_eq!(judged(&warned), "");
    for digest in [Digest::Missing, Digest::Mismatch] {
        let mut wrong = proof();
        wrong.status.as_mut().unwrap().digest = digest;
        assert_eq!(judged(&wrong), "digest");
    }
    let mut broken = proof();
    broken.status = None;
    assert_eq!(judged(&broken), "digest,structure,rows");
    let other = judge(&proof(), Some("another"), &Live::NotAsked);
    assert_eq!(failed(&other), ["digest"]);
}
