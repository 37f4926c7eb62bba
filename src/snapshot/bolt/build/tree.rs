//! The B+tree of one bucket under construction: leaves, and the branches above them, go to pages as they fill.

use std::io::{self, Write};

use super::BuildError;
use crate::snapshot::bolt::page::{
    COUNT_ELSEWHERE, ELEMENT, FLAG_BRANCH, FLAG_LEAF, MAX_KEY, MAX_VALUE, PAGE_HEADER, PageHeader,
};

/// The most elements of a page; 0xFFFF stands for "counted elsewhere" in a freelist page, and bbolt keeps all pages below it.
pub(super) const MAX_COUNT: usize = COUNT_ELSEWHERE as usize - 1;

/// Where pages go: each gets the next free id and is padded to whole pages.
pub(super) struct Pages<'a, W> {
    pub(super) out: &'a mut W,
    pub(super) size: usize,
    pub(super) next: &'a mut u64,
}

impl<W: Write> Pages<'_, W> {
    pub(super) fn write(
        &mut self,
        length: usize,
        content: impl FnOnce(&mut W, u64, u32) -> io::Result<()>,
    ) -> io::Result<u64> {
        let id = *self.next;
        let count = length.div_ceil(self.size).max(1);
        let overflow = u32::try_from(count - 1).map_err(io::Error::other)?;
        content(self.out, id, overflow)?;
        write_zeros(self.out, count * self.size - length)?;
        *self.next += count as u64;
        Ok(id)
    }
}

/// A bucket's B+tree, of which only the open node of each level is in memory.
pub(super) struct Tree {
    pub(super) name: Vec<u8>,
    rows: u64,
    last_key: Vec<u8>,
    pub(super) leaf: Node,
    leaves: u64,
    /// Open branch nodes, the lowest level first.
    branches: Vec<Vec<Child>>,
}

/// A page that was written, as its parent will name it.
pub(super) struct Child {
    pub(super) first_key: Vec<u8>,
    pub(super) page: u64,
}

impl Tree {
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            rows: 0,
            last_key: Vec::new(),
            leaf: Node::default(),
            leaves: 0,
            branches: Vec::new(),
        }
    }

    pub(super) fn refuse(&self, problem: &'static str) -> BuildError {
        BuildError::Row {
            bucket: String::from_utf8_lossy(&self.name).into_owned(),
            row: self.rows,
            problem,
        }
    }

    pub(super) fn add<W: Write>(
        &mut self,
        pages: &mut Pages<'_, W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BuildError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(self.refuse("its key must have 1 to 32768 bytes"));
        }
        if value.len() > MAX_VALUE {
            return Err(self.refuse("its value must be shorter than 2 GiB"));
        }
        if self.rows > 0 && key <= self.last_key.as_slice() {
            return Err(self.refuse("its key is not greater than the one before it"));
        }
        let size = ELEMENT + key.len() + value.len();
        if !self.leaf.is_empty()
            && (self.leaf.length() + size > pages.size || self.leaf.elements.len() >= MAX_COUNT)
        {
            self.close_leaf(pages)?;
        }
        if PAGE_HEADER + size > pages.size {
            self.write_large(pages, flags, key, value)?;
        } else {
            self.leaf.push(flags, key, value);
        }
        self.rows += 1;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    pub(super) fn fits_inline(&self, page_size: usize) -> bool {
        self.leaves == 0 && self.leaf.length() <= page_size / 4
    }

    fn close_leaf<W: Write>(&mut self, pages: &mut Pages<'_, W>) -> Result<(), BuildError> {
        let leaf = &self.leaf;
        let page = pages.write(leaf.length(), |out, id, overflow| {
            leaf.write_to(out, id, FLAG_LEAF, overflow)
        })?;
        let first_key = self.leaf.first_key().to_vec();
        self.leaf.clear();
        self.leaves += 1;
        self.add_child(pages, 0, Child { first_key, page })
    }

    /// A row that is larger than a page goes straight to a run of pages of its own.
    fn write_large<W: Write>(
        &mut self,
        pages: &mut Pages<'_, W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BuildError> {
        let length = PAGE_HEADER + ELEMENT + key.len() + value.len();
        let page = pages.write(length, |out, id, overflow| {
            out.write_all(&page_header(id, FLAG_LEAF, 1, overflow))?;
            out.write_all(&leaf_element(flags, ELEMENT, key.len(), value.len()))?;
            out.write_all(key)?;
            out.write_all(value)
        })?;
        self.leaves += 1;
        let first_key = key.to_vec();
        self.add_child(pages, 0, Child { first_key, page })
    }

    /// A full branch node is written when the next child comes, without its last one: so no node ever has a single child,
    /// which bbolt's rebalancing would stumble over.
    fn add_child<W: Write>(
        &mut self,
        pages: &mut Pages<'_, W>,
        level: usize,
        child: Child,
    ) -> Result<(), BuildError> {
        if self.branches.len() <= level {
            self.branches.push(Vec::new());
        }
        let Some(open) = self.branches.get_mut(level) else {
            return Ok(());
        };
        let full = branch_length(open) + ELEMENT + child.first_key.len() > pages.size
            || open.len() >= MAX_COUNT;
        if !full || open.len() < 3 {
            open.push(child);
            return Ok(());
        }
        let mut next = Vec::with_capacity(open.capacity());
        next.extend(open.pop());
        next.push(child);
        let complete = std::mem::replace(open, next);
        let parent = write_branch(pages, complete)?;
        self.add_child(pages, level + 1, parent)
    }

    /// Writes what is open and returns the page of the root.
    pub(super) fn close<W: Write>(&mut self, pages: &mut Pages<'_, W>) -> Result<u64, BuildError> {
        if !self.leaf.is_empty() || self.leaves == 0 {
            self.close_leaf(pages)?;
        }
        let mut level = 0;
        loop {
            let open = self
                .branches
                .get_mut(level)
                .map(std::mem::take)
                .unwrap_or_default();
            let is_top = level + 1 >= self.branches.len();
            match open.as_slice() {
                [only] if is_top => return Ok(only.page),
                _ => {
                    let parent = write_branch(pages, open)?;
                    self.add_child(pages, level + 1, parent)?;
                }
            }
            level += 1;
        }
    }
}

/// What a bucket's parent says of it: where its tree begins, and how far it counts, which etcd does not use.
pub(super) fn tree_at(root: u64) -> Vec<u8> {
    let mut value = root.to_le_bytes().to_vec();
    value.extend_from_slice(&0_u64.to_le_bytes());
    value
}

fn branch_length(children: &[Child]) -> usize {
    let keys: usize = children.iter().map(|child| child.first_key.len()).sum();
    PAGE_HEADER + ELEMENT * children.len() + keys
}

pub(super) fn write_branch<W: Write>(
    pages: &mut Pages<'_, W>,
    children: Vec<Child>,
) -> Result<Child, BuildError> {
    let count = children.len();
    let page = pages.write(branch_length(&children), |out, id, overflow| {
        out.write_all(&page_header(id, FLAG_BRANCH, count, overflow))?;
        let mut position = ELEMENT * count;
        for child in &children {
            let mut element = [0; ELEMENT];
            element[..4].copy_from_slice(&as_u32(position));
            element[4..8].copy_from_slice(&as_u32(child.first_key.len()));
            element[8..].copy_from_slice(&child.page.to_le_bytes());
            out.write_all(&element)?;
            position = position - ELEMENT + child.first_key.len();
        }
        for child in &children {
            out.write_all(&child.first_key)?;
        }
        Ok(())
    })?;
    let first_key = children
        .into_iter()
        .next()
        .map(|child| child.first_key)
        .unwrap_or_default();
    Ok(Child { first_key, page })
}

/// The open leaf: its elements, and their keys and values one after the other.
#[derive(Default)]
pub(super) struct Node {
    elements: Vec<(u32, usize, usize)>,
    data: Vec<u8>,
}

impl Node {
    pub(super) fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        self.elements.push((flags, key.len(), value.len()));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
    }

    pub(super) fn length(&self) -> usize {
        PAGE_HEADER + ELEMENT * self.elements.len() + self.data.len()
    }

    fn first_key(&self) -> &[u8] {
        let length = self.elements.first().map_or(0, |(_, key, _)| *key);
        self.data.get(..length).unwrap_or_default()
    }

    pub(super) fn write_to(
        &self,
        out: &mut impl Write,
        id: u64,
        flags: u16,
        overflow: u32,
    ) -> io::Result<()> {
        out.write_all(&page_header(id, flags, self.elements.len(), overflow))?;
        // Positions count from the element itself.
        let mut position = ELEMENT * self.elements.len();
        for (element_flags, key, value) in &self.elements {
            out.write_all(&leaf_element(*element_flags, position, *key, *value))?;
            position = position - ELEMENT + key + value;
        }
        out.write_all(&self.data)
    }
}

/// Lengths and positions lie in one page or one row, which the limits on keys and values hold below 4 GiB.
fn as_u32(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

pub(super) fn page_header(id: u64, flags: u16, count: usize, overflow: u32) -> [u8; PAGE_HEADER] {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    PageHeader {
        id,
        flags,
        count,
        overflow,
    }
    .encode()
}

fn leaf_element(flags: u32, position: usize, key: usize, value: usize) -> [u8; ELEMENT] {
    let mut element = [0; ELEMENT];
    element[..4].copy_from_slice(&flags.to_le_bytes());
    element[4..8].copy_from_slice(&as_u32(position));
    element[8..12].copy_from_slice(&as_u32(key));
    element[12..].copy_from_slice(&as_u32(value));
    element
}

fn write_zeros(out: &mut impl Write, mut count: usize) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let part = count.min(ZEROS.len());
        out.write_all(ZEROS.get(..part).unwrap_or_default())?;
        count -= part;
    }
    Ok(())
}
