//! What is built is read back.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::snapshot::bolt::Database;
use crate::snapshot::bolt::page::{FLAG_BRANCH, PageHeader};

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

/// `image` with the bucket `key` kept, and perhaps with one more row, and its other buckets replaced by these.
fn keep(image: &[u8], row: Option<(&[u8], &[u8])>, others: &BTreeMap<Vec<u8>, Rows>) -> Vec<u8> {
    let mut out = Cursor::new(image.to_vec());
    out.set_position(image.len() as u64);
    let database = Database::open(image).unwrap();
    let bucket = database.bucket(b"key").unwrap().unwrap();
    let kept = bucket.kept().unwrap().unwrap();
    let mut builder = ImageBuilder::behind(out, &database).unwrap();
    let (before, behind): (Vec<_>, Vec<_>) = others
        .iter()
        .partition(|(name, _)| name.as_slice() < b"key".as_slice());
    let write = |builder: &mut ImageBuilder<Cursor<Vec<u8>>>, name: &[u8], rows: &Rows| {
        builder.bucket(name).unwrap();
        for (key, value) in rows {
            builder.row(key, value).unwrap();
        }
    };
    before
        .iter()
        .for_each(|(name, rows)| write(&mut builder, name, rows));
    builder.keep(b"key", &kept, row).unwrap();
    behind
        .iter()
        .for_each(|(name, rows)| write(&mut builder, name, rows));
    let (out, length) = builder.finish().unwrap();
    let image = out.into_inner();
    assert_eq!(image.len() as u64, length);
    image
}

fn is_sound(image: &[u8]) {
    let proof = crate::snapshot::skim(image);
    assert!(proof.is_ok(), "{proof:?}");
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
fn a_kept_bucket_has_its_rows_and_one_more_beside_buckets_that_are_new() {
    let rows: Rows = (0..9_000_u32)
        .map(|n| (n.to_be_bytes().to_vec(), vec![7; (n % 90) as usize]))
        .collect();
    let old = BTreeMap::from([
        (b"a".to_vec(), Rows::from([(vec![1], vec![2; 30])])),
        (b"key".to_vec(), rows.clone()),
        (b"z".to_vec(), Rows::from([(vec![9], vec![9; 5000])])),
    ]);
    let others = BTreeMap::from([
        (b"b".to_vec(), Rows::from([(vec![5], vec![6; 9000])])),
        (b"y".to_vec(), Rows::new()),
    ]);
    for size in [1024, 4096] {
        let image = build(&old, size);
        let key = 9_000_u32.to_be_bytes();
        for row in [
            None,
            Some((&key[..], &[3; 700][..])),
            Some((&key[..], &[][..])),
        ] {
            let kept = keep(&image, row, &others);
            let metas = 2 * size as usize;
            assert!(
                kept[metas..image.len()] == image[metas..],
                "pages stay as they were"
            );
            is_sound(&kept);
            let mut expected = others.clone();
            let mut all = rows.clone();
            all.extend(row.map(|(key, value)| (key.to_vec(), value.to_vec())));
            expected.insert(b"key".to_vec(), all);
            assert!(read(&kept) == expected);
        }
    }
}

#[test]
fn only_a_row_behind_the_last_can_be_added_to_a_kept_bucket() {
    let rows: Rows = (0..500_u32)
        .map(|n| (n.to_be_bytes().to_vec(), vec![7; 60]))
        .collect();
    let image = build(&BTreeMap::from([(b"key".to_vec(), rows)]), 1024);
    let database = Database::open(&image).unwrap();
    let bucket = database.bucket(b"key").unwrap().unwrap();
    let kept = bucket.kept().unwrap().unwrap();
    let mut builder = ImageBuilder::behind(Cursor::new(image.clone()), &database).unwrap();
    let refused = builder.keep(b"key", &kept, Some((&499_u32.to_be_bytes(), b"")));
    assert!(refused.unwrap_err().to_string().contains("not greater"));
    // The tree has all pages but the two metas and that of the root bucket.
    assert_eq!(bucket.pages().unwrap(), database.meta().high_water - 3);
    let small = build(&BTreeMap::from([(b"key".to_vec(), Rows::new())]), 1024);
    let database = Database::open(&small).unwrap();
    let inline = database.bucket(b"key").unwrap().unwrap();
    assert!(inline.kept().unwrap().is_none(), "it has no pages");
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
