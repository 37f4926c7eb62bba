//! The live keys at a point of the history: for each key the newest row, unless it deletes the key. At most 14 bytes a key.
//!
//! An entry is the row's place in the image and some bits of its key's hash, never the key itself: keys of equal bits are
//! told apart by reading them from the image, so no two keys are ever taken for one. The hash is seeded afresh for each
//! table, so that nobody can prepare a file whose keys collide.

use std::hash::{BuildHasher, RandomState};

use super::key_value::KeyValue;
use crate::snapshot::bolt::page::MAX_IMAGE;
use crate::snapshot::bolt::row_at;

/// Tables, by the upper bits of the hash: one grows at a time, so the peak while growing is a 256th above the end.
const SHARDS: usize = 256;
/// Bits of the place: enough for the largest image.
const PLACE_BITS: u32 = MAX_IMAGE.trailing_zeros();
/// Bits of the hash in an entry.
const TAG_BITS: u32 = 23;
/// Set in an entry whose caller asked for it.
const MARK: u64 = 1 << PLACE_BITS;

/// Live keys of an image.
pub struct Ledger<'a> {
    image: &'a [u8],
    hasher: RandomState,
    shards: Vec<Shard>,
    length: u64,
}

/// Where a key's entry is to be found: what its hash says.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    shard: usize,
    tag: u64,
}

#[derive(Default)]
struct Shard {
    /// 0 is a free slot: no row stands at the beginning of an image.
    slots: Vec<u64>,
    length: usize,
}

impl<'a> Ledger<'a> {
    /// An empty ledger over an image.
    pub fn new(image: &'a [u8]) -> Self {
        Self {
            image,
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
            length: 0,
        }
    }

    /// Live keys.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Makes the row at `element` the newest of its key; gives the element of the one before.
    pub fn put(&mut self, key: &[u8], element: usize, mark: bool) -> Option<usize> {
        self.put_at(self.address(key), key, element, mark)
    }

    /// The same, of a key whose address is known.
    pub fn put_at(
        &mut self,
        Address { shard, tag }: Address,
        key: &[u8],
        element: usize,
        mark: bool,
    ) -> Option<usize> {
        let entry = (tag << (PLACE_BITS + 1)) | if mark { MARK } else { 0 } | element as u64;
        let image = self.image;
        let shard = self.shards.get_mut(shard)?;
        match shard.find(image, tag, key) {
            Some(slot) => {
                let before = std::mem::replace(shard.slots.get_mut(slot)?, entry);
                Some(place(before))
            }
            None => {
                shard.insert(entry);
                self.length += 1;
                None
            }
        }
    }

    /// Takes a key out; gives the element of its newest row.
    pub fn remove(&mut self, key: &[u8]) -> Option<usize> {
        self.remove_at(self.address(key), key)
    }

    /// The same, of a key whose address is known.
    pub fn remove_at(&mut self, Address { shard, tag }: Address, key: &[u8]) -> Option<usize> {
        let shard = self.shards.get_mut(shard)?;
        let slot = shard.find(self.image, tag, key)?;
        let entry = *shard.slots.get(slot)?;
        shard.remove(slot);
        self.length -= 1;
        Some(place(entry))
    }

    /// Whether the row at `element` is the newest of its key.
    pub fn holds(&self, key: &[u8], element: usize) -> bool {
        let Address { shard, tag } = self.address(key);
        self.shards
            .get(shard)
            .is_some_and(|shard| shard.probe(tag).any(|(_, entry)| place(entry) == element))
    }

    /// The elements of rows that were put with a mark.
    pub fn marked(&self) -> impl Iterator<Item = usize> + '_ {
        let entries = self.shards.iter().flat_map(|shard| shard.slots.iter());
        entries
            .filter(|entry| **entry & MARK != 0)
            .map(|entry| place(*entry))
    }

    /// The elements of all live keys' newest rows, in no order.
    pub fn elements(&self) -> impl Iterator<Item = usize> + '_ {
        let entries = self.shards.iter().flat_map(|shard| shard.slots.iter());
        entries
            .filter(|entry| **entry != 0)
            .map(|entry| place(*entry))
    }

    /// Where a key's entry is to be found.
    pub fn address(&self, key: &[u8]) -> Address {
        let hash = self.hasher.hash_one(key);
        Address {
            shard: (hash & 0xff) as usize,
            tag: (hash >> 8) & ((1 << TAG_BITS) - 1),
        }
    }

    /// Reads the slot at an address and nothing else. The table is larger than a processor's caches, and one after the other
    /// keys would each wait for memory; slots that are touched together wait at the same time.
    pub fn touch(&self, Address { shard, tag }: Address) {
        let shard = self.shards.get(shard);
        let slot = shard.and_then(|shard| shard.slots.get(shard.home(tag)).copied());
        std::hint::black_box(slot);
    }
}

fn place(entry: u64) -> usize {
    (entry & (MARK - 1)) as usize
}

fn tag_of(entry: u64) -> u64 {
    entry >> (PLACE_BITS + 1)
}

impl Shard {
    fn home(&self, tag: u64) -> usize {
        ((tag * self.slots.len() as u64) >> TAG_BITS) as usize
    }

    /// The entries from a tag's home to the next free slot.
    fn probe(&self, tag: u64) -> impl Iterator<Item = (usize, u64)> + '_ {
        let home = self.home(tag);
        let (before, from) = self.slots.split_at_checked(home).unwrap_or((&[], &[]));
        let slots = (home..).zip(from).chain((0..).zip(before));
        slots
            .map(|(slot, entry)| (slot, *entry))
            .take_while(|(_, entry)| *entry != 0)
            .filter(move |(_, entry)| tag_of(*entry) == tag)
    }

    fn find(&self, image: &[u8], tag: u64, key: &[u8]) -> Option<usize> {
        self.probe(tag)
            .find(|(_, entry)| {
                row_at(image, place(*entry)).is_some_and(|(_, value)| KeyValue::has_key(value, key))
            })
            .map(|(slot, _)| slot)
    }

    fn insert(&mut self, entry: u64) {
        // Four fifths full at most: probes stay short, and growth by two fifths keeps it above 57 %.
        if (self.length + 1) * 5 > self.slots.len() * 4 {
            let grown = vec![0; self.slots.len() * 7 / 5 + 8];
            let old = std::mem::replace(&mut self.slots, grown);
            for entry in old.into_iter().filter(|entry| *entry != 0) {
                self.store(entry);
            }
        }
        self.store(entry);
        self.length += 1;
    }

    fn store(&mut self, entry: u64) {
        let mut slot = self.home(tag_of(entry));
        loop {
            match self.slots.get_mut(slot) {
                Some(free @ 0) => {
                    *free = entry;
                    return;
                }
                Some(_) => slot += 1,
                None => slot = 0,
            }
        }
    }

    /// Frees a slot, and moves entries back that were pushed behind it.
    fn remove(&mut self, slot: usize) {
        let (mut hole, mut next) = (slot, slot);
        let size = self.slots.len();
        loop {
            next = if next + 1 == size { 0 } else { next + 1 };
            let entry = self.slots.get(next).copied().unwrap_or_default();
            if entry == 0 || next == slot {
                break;
            }
            // How far the entry is from its home, and from the hole: it may move back no further than home.
            let home = self.home(tag_of(entry));
            let from_home = (next + size - home) % size;
            let from_hole = (next + size - hole) % size;
            if from_home >= from_hole {
                if let Some(free) = self.slots.get_mut(hole) {
                    *free = entry;
                }
                hole = next;
            }
        }
        if let Some(free) = self.slots.get_mut(hole) {
            *free = 0;
        }
        self.length -= 1;
    }
}
