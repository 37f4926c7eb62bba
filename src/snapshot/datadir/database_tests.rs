//! Keeping a snapshot's pages and writing its rows anew lead to the same buckets.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::*;
use crate::snapshot::built::{Buckets, database, row, snapshot, value};
use crate::snapshot::{Snapshot, prove};

/// 400 keys; two live ones name the lease 77, which no bucket holds, and one that was deleted names 78.
fn leased() -> Vec<u8> {
    let mut rows: Vec<_> = (2..402)
        .map(|main| {
            let lease = if main < 4 { 77 } else { 0 };
            let text = "x".repeat(60);
            let name = format!("k{main}");
            (
                row(main, 0, false),
                value(&name, main, main, 1, &text, lease),
            )
        })
        .collect();
    rows.push((row(402, 0, false), value("gone", 402, 402, 1, "", 78)));
    rows.push((row(403, 0, true), value("gone", 0, 0, 0, "", 0)));
    snapshot(&database(&rows, None, None), 1024)
}

fn buckets(image: &[u8]) -> Buckets {
    let image = Database::open(image).unwrap();
    let mut all = Buckets::new();
    for bucket in image.buckets() {
        let (name, bucket) = bucket.unwrap();
        let rows = bucket.rows().map(|row| {
            let row = row.unwrap();
            (row.key.to_vec(), row.value.to_vec())
        });
        all.insert(name.to_vec(), rows.collect());
    }
    all
}

#[test]
fn kept_pages_and_rows_written_anew_hold_the_same() {
    let bytes = leased();
    let proof = prove(&bytes);
    assert!(proof.ok());
    let image = Database::open(Snapshot::split(&bytes).image).unwrap();
    let cluster = Cluster::parse("default=http://localhost:2380", "t").unwrap();
    for raised_to in [None, Some(1_000_000_403)] {
        let wanted = Rewrite {
            cluster: &cluster,
            kept_to: 403,
            raised_to,
        };
        let (out, anew) = rewrite(&image, &wanted, Cursor::new(Vec::new()), &|_| {}).unwrap();
        let anew_image = out.into_inner();
        let kept = kept_rows(&image, &wanted).unwrap().unwrap();
        let mut out = Cursor::new(image.image().to_vec());
        out.set_position(image.image().len() as u64);
        let (out, done) = complete(&image, &wanted, &kept, &proof, out).unwrap();
        let kept_image = out.into_inner();
        assert!(
            buckets(&kept_image) == buckets(&anew_image),
            "{raised_to:?}"
        );
        let length = kept_image.len() as u64;
        assert_eq!(done, Rewritten { length, ..anew });
        assert_eq!(done.added_leases, 1, "of those who live");
        let lease = buckets(&kept_image)[LEASE_BUCKET].clone();
        assert!(lease.contains_key(77_i64.to_be_bytes().as_slice()) && lease.len() == 1);
    }
}

#[test]
fn pages_are_not_kept_where_rows_are_left_out_or_much_is_free() {
    let bytes = leased();
    let image = Database::open(Snapshot::split(&bytes).image).unwrap();
    let cluster = Cluster::parse("default=http://localhost:2380", "t").unwrap();
    let wanted = |kept_to| Rewrite {
        cluster: &cluster,
        kept_to,
        raised_to: None,
    };
    assert!(kept_rows(&image, &wanted(403)).unwrap().is_some());
    assert!(
        kept_rows(&image, &wanted(402)).unwrap().is_none(),
        "a row too late"
    );
    // A bucket beside it takes more than a quarter of the pages, and would be left behind.
    let mut beside = buckets(image.image());
    let large = vec![7; image.image().len()];
    beside.insert(b"zzz".to_vec(), [(vec![1], large)].into());
    let bytes = snapshot(&beside, 1024);
    let image = Database::open(Snapshot::split(&bytes).image).unwrap();
    assert!(kept_rows(&image, &wanted(403)).unwrap().is_none());
}
