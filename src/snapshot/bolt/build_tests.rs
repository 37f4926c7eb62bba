//! What is built is read back.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::snapshot::bolt::Database;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn build(buckets: &BTreeMap<Vec<u8>, Rows>, page_size: u32) -> Vec<u8> {
    let mut builder = ImageBuilder::new(Cursor::new(Vec::new()), page_size).unwrap();
    for (name, rows) in buckets {
        builder.bucket(name).unwrap();
        for (key, value) in rows {
            builder.row(key, value).unwrap();
        }
    }
    let (out, length) = builder.finish().unwrap();
    let image = out.into_inner();
    assert_eq!(image.len() as u64, length);
    image
}

fn read(image: &[u8]) -> BTreeMap<Vec<u8>, Rows> {
    let image = Database::open(image).unwrap();
    let mut buckets = BTreeMap::new();
    for bucket in image.buckets() {
        let (name, bucket) = bucket.unwrap();
        let mut rows = Rows::new();
        for row in bucket.rows() {
            let row = row.unwrap();
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
        buckets.insert(name.to_vec(), rows);
    }
    buckets
}

/// The fewest children of any branch page.
fn fewest_children(image: &[u8], page_size: usize) -> u16 {
    image
        .chunks(page_size)
        .enumerate()
        .filter_map(|(id, page)| {
            let header = PageHeader::decode(page)?;
            (header.id == id as u64 && header.flags == FLAG_BRANCH).then_some(header.count)
        })
        .min()
        .unwrap_or(u16::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_rows_are_read_back(
        buckets in btree_map(
            vec(any::<u8>(), 1..40),
            btree_map(vec(any::<u8>(), 1..60), vec(any::<u8>(), 0..200), 0..40),
            0..4,
        ),
        size in prop::sample::select(vec![1024_u32, 4096, 65_536]),
    ) {
        let image = build(&buckets, size);
        prop_assert_eq!(read(&image), buckets);
        prop_assert_eq!(image.len() % size as usize, 0);
    }
}

#[test]
fn a_deep_tree_with_rows_larger_than_pages_is_read_back() {
    let mut rows = Rows::new();
    for number in 0..20_000_u32 {
        let length = if number % 997 == 0 { 5000 } else { number % 40 };
        let value = vec![number.to_le_bytes()[0]; length as usize];
        rows.insert(number.to_be_bytes().to_vec(), value);
    }
    let buckets = BTreeMap::from([(b"empty".to_vec(), Rows::new()), (b"key".to_vec(), rows)]);
    for size in [1024, 4096] {
        let image = build(&buckets, size);
        assert_eq!(read(&image), buckets);
        assert!(fewest_children(&image, size as usize) >= 2);
    }
    let long_keys: Rows = (0..40_u8).map(|n| (vec![n; 2000], vec![n])).collect();
    let buckets = BTreeMap::from([(b"long".to_vec(), long_keys)]);
    let image = build(&buckets, 1024);
    assert_eq!(read(&image), buckets);
    assert!(fewest_children(&image, 1024) >= 2);
}

#[test]
fn what_bbolt_could_not_find_again_is_refused() {
    let mut builder = ImageBuilder::new(Cursor::new(Vec::new()), 4096).unwrap();
    assert!(builder.row(b"a", b"").is_err(), "no bucket");
    builder.bucket(b"b").unwrap();
    assert!(builder.row(b"", b"").is_err(), "an empty key");
    assert!(builder.row(&vec![0; 32_769], b"").is_err(), "a long key");
    builder.row(b"k", b"1").unwrap();
    let refused = builder.row(b"k", b"2").unwrap_err().to_string();
    assert_eq!(
        refused,
        "bucket 'b', row 1: its key is not greater than the one before it"
    );
    builder.bucket(b"b").unwrap();
    assert!(builder.finish().is_err(), "a bucket twice");
    assert!(ImageBuilder::new(Cursor::new(Vec::new()), 5000).is_err());
}
