//! The live keys at a point of the history: for each key the newest row, unless it deletes the key. At most 14 bytes a key.
//!
//! An entry is the row's place in the image and some bits of its key's hash, never the key itself: keys of equal bits are
//! told apart by reading them from the image, so no two keys are ever taken for one. The hash is seeded afresh for each
//! ledger, so that nobody can prepare a file whose keys collide.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::key_value::KeyValue;
use crate::snapshot::bolt::page::{CACHE_LINE, MAX_IMAGE, u32_at};
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
    seeds: (u64, SharedSeed),
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
        // The standard library's own keys are the system's noise.
        let [one, other] = [0, 1].map(|number: u64| RandomState::new().hash_one(number));
        Self {
            image,
            seeds: (one, SharedSeed::from_u64(other)),
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

    /// Whether a key is alive.
    pub fn has(&self, key: &[u8]) -> bool {
        let Address { shard, tag } = self.address(key);
        let shard = self.shards.get(shard);
        shard.is_some_and(|shard| shard.find(self.image, tag, key).is_some())
    }

    /// Whether the row at `element` is the newest of its key.
    pub fn holds(&self, key: &[u8], element: usize) -> bool {
        let Address { shard, tag } = self.address(key);
        self.shards
            .get(shard)
            .is_some_and(|shard| shard.first(tag, |place| place == element).is_some())
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
        let mut hasher = FoldHasher::with_seed(self.seeds.0, &self.seeds.1);
        hasher.write(key);
        let hash = hasher.finish();
        Address {
            shard: (hash & 0xff) as usize,
            tag: (hash >> 8) & ((1 << TAG_BITS) - 1),
        }
    }

    /// Reads what looking these keys up will read, up to `N` of them, and nothing else: their slots, then the elements that
    /// these name, then the rows' beginnings. Table and image are larger than a processor's caches, and keys that are looked up
    /// one after the other would each wait for memory three times; what is touched together waits at the same time.
    pub fn touch<const N: usize>(&self, addresses: impl Iterator<Item = Address> + Clone) {
        for Address { shard, tag } in addresses.clone() {
            let shard = self.shards.get(shard);
            black_box(shard.and_then(|shard| shard.slots.get(shard.home(tag)).copied()));
        }
        // Where nothing is found the image's first bytes are read in vain.
        let mut places = [0; N];
        for (at, Address { shard, tag }) in places.iter_mut().zip(addresses) {
            let shard = self.shards.get(shard);
            let found = shard.and_then(|shard| shard.first(tag, |_| true));
            *at = found.map_or(0, |(_, entry)| place(entry));
        }
        for at in &mut places {
            *at += u32_at(self.image, *at + 4).unwrap_or_default() as usize;
        }
        for at in places {
            let byte = |at: usize| self.image.get(at).copied();
            black_box((byte(at), byte(at + CACHE_LINE)));
        }
    }

    /// The elements of all live keys' newest rows, in the order of the image. Memory goes over, a table at a time.
    pub fn into_elements(self) -> Vec<usize> {
        let mut elements = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
        for shard in self.shards {
            let entries = shard.slots.into_iter().filter(|entry| *entry != 0);
            elements.extend(entries.map(place));
        }
        elements.sort_unstable();
        elements
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

    /// The first entry of a tag for which `wanted` holds, and its slot, from the tag's home to the next free slot.
    #[inline(always)]
    fn first(&self, tag: u64, mut wanted: impl FnMut(usize) -> bool) -> Option<(usize, u64)> {
        let mut slot = self.home(tag);
        // One slot in five is free: it ends.
        loop {
            let entry = *self.slots.get(slot)?;
            if entry == 0 {
                return None;
            }
            if tag_of(entry) == tag && wanted(place(entry)) {
                return Some((slot, entry));
            }
            slot += 1;
            if slot == self.slots.len() {
                slot = 0;
            }
        }
    }

    fn find(&self, image: &[u8], tag: u64, key: &[u8]) -> Option<usize> {
        let has_key =
            |place| row_at(image, place).is_some_and(|(_, value)| KeyValue::has_key(value, key));
        self.first(tag, has_key).map(|(slot, _)| slot)
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
            let ahead_of = |slot: usize| match next.checked_sub(slot) {
                Some(steps) => steps,
                None => next + size - slot,
            };
            if ahead_of(home) >= ahead_of(hole) {
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
