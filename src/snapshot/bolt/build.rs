//! Writes a bbolt image front to back from sorted rows: full pages, no free ones, nothing left of deleted rows. Memory holds
//! one page a level of the tree, whatever the size (etcd-format.md §2.9).

use std::io::{self, Seek, SeekFrom, Write};

use super::page::{
    BUCKET_ELEMENT, COUNT_ELSEWHERE, ELEMENT, FLAG_BRANCH, FLAG_LEAF, FLAG_META, MAX_KEY,
    MAX_VALUE, Meta, NO_FREELIST, PAGE_HEADER, PageHeader, is_page_size,
};

/// The page size of an image when its source says nothing better.
pub const DEFAULT_PAGE_SIZE: u32 = 4096;

/// The most elements of a page; 0xFFFF stands for "counted elsewhere" in a freelist page, and bbolt keeps all pages below it.
const MAX_COUNT: usize = COUNT_ELSEWHERE as usize - 1;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The output broke.
    #[error("the image could not be written: {0}")]
    Io(#[from] io::Error),
    /// Rows or buckets that bbolt could not find again.
    #[error("bucket '{bucket}', row {row}: {problem}")]
    Row {
        /// The bucket.
        bucket: String,
        /// Ordinal of the row, from 0.
        row: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A page size that bbolt does not know.
    #[error("{0} is not a page size: it must be a power of two from 1024 to 65536")]
    PageSize(u32),
}

/// An image under construction. Buckets come in order of their names, each with its rows in order of their keys.
pub struct ImageBuilder<W> {
    out: W,
    page_size: usize,
    next_page: u64,
    /// The root bucket: an element a bucket.
    root: Tree,
    bucket: Option<Tree>,
}

impl<W: Write + Seek> ImageBuilder<W> {
    /// Starts an image at the position where `out` stands, which must be its beginning.
    ///
    /// # Errors
    /// When the page size is impossible or the output breaks.
    pub fn new(mut out: W, page_size: u32) -> Result<Self, BuildError> {
        if !is_page_size(page_size) {
            return Err(BuildError::PageSize(page_size));
        }
        let page = page_size as usize;
        // The two meta pages are known at the end only.
        out.write_all(&vec![0; 2 * page])?;
        Ok(Self {
            out,
            page_size: page,
            next_page: 2,
            root: Tree::new(b""),
            bucket: None,
        })
    }

    /// Begins a bucket; the one before it is complete.
    ///
    /// # Errors
    /// When the name is not greater than the last one's, or the output breaks.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), BuildError> {
        self.close_bucket()?;
        self.bucket = Some(Tree::new(name));
        Ok(())
    }

    /// Adds a row to the bucket that was begun last.
    ///
    /// # Errors
    /// When the key is not greater than the last one's or has an impossible length, or the output breaks.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        let Some(tree) = &mut self.bucket else {
            return Err(self.root.refuse("a row needs a bucket around it"));
        };
        let mut pages = Pages {
            out: &mut self.out,
            size: self.page_size,
            next: &mut self.next_page,
        };
        tree.add(&mut pages, 0, key, value)
    }

    /// Completes the image and gives back its output, and the image's length in bytes. Nothing is flushed to a disk.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn finish(mut self) -> Result<(W, u64), BuildError> {
        self.close_bucket()?;
        let mut pages = Pages {
            out: &mut self.out,
            size: self.page_size,
            next: &mut self.next_page,
        };
        let root = self.root.close(&mut pages)?;
        let length = self.next_page * self.page_size as u64;
        self.out.seek(SeekFrom::Start(0))?;
        // bbolt's transaction N writes meta N mod 2: with 2 in page 0 its first commit goes to page 1, and page 0 stays whole.
        for (id, transaction) in [(0, 2), (1, 1)] {
            let meta = Meta {
                page_size: u32::try_from(self.page_size).map_err(io::Error::other)?,
                root,
                root_sequence: 0,
                // bbolt derives the free pages when it opens the file. There are none.
                freelist: NO_FREELIST,
                high_water: self.next_page,
                transaction,
            };
            let mut page = page_header(id, FLAG_META, 0, 0).to_vec();
            page.extend_from_slice(&meta.encode());
            page.resize(self.page_size, 0);
            self.out.write_all(&page)?;
        }
        self.out.seek(SeekFrom::Start(length))?;
        Ok((self.out, length))
    }

    fn close_bucket(&mut self) -> Result<(), BuildError> {
        let Some(mut tree) = self.bucket.take() else {
            return Ok(());
        };
        let mut pages = Pages {
            out: &mut self.out,
            size: self.page_size,
            next: &mut self.next_page,
        };
        let value = if tree.fits_inline(pages.size) {
            let mut value = vec![0; 16];
            tree.leaf.write_to(&mut value, 0, FLAG_LEAF, 0)?;
            value
        } else {
            let root = tree.close(&mut pages)?;
            let mut value = root.to_le_bytes().to_vec();
            value.extend_from_slice(&0_u64.to_le_bytes());
            value
        };
        self.root
            .add(&mut pages, BUCKET_ELEMENT, &tree.name, &value)
    }
}

/// Where pages go: each gets the next free id and is padded to whole pages.
struct Pages<'a, W> {
    out: &'a mut W,
    size: usize,
    next: &'a mut u64,
}

impl<W: Write> Pages<'_, W> {
    fn write(
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
struct Tree {
    name: Vec<u8>,
    rows: u64,
    last_key: Vec<u8>,
    leaf: Node,
    leaves: u64,
    /// Open branch nodes, the lowest level first.
    branches: Vec<Vec<Child>>,
}

/// A page that was written, as its parent will name it.
struct Child {
    first_key: Vec<u8>,
    page: u64,
}

impl Tree {
    fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            rows: 0,
            last_key: Vec::new(),
            leaf: Node::default(),
            leaves: 0,
            branches: Vec::new(),
        }
    }

    fn refuse(&self, problem: &'static str) -> BuildError {
        BuildError::Row {
            bucket: String::from_utf8_lossy(&self.name).into_owned(),
            row: self.rows,
            problem,
        }
    }

    fn add<W: Write>(
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

    fn fits_inline(&self, page_size: usize) -> bool {
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
    fn close<W: Write>(&mut self, pages: &mut Pages<'_, W>) -> Result<u64, BuildError> {
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

fn branch_length(children: &[Child]) -> usize {
    let keys: usize = children.iter().map(|child| child.first_key.len()).sum();
    PAGE_HEADER + ELEMENT * children.len() + keys
}

fn write_branch<W: Write>(
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
struct Node {
    elements: Vec<(u32, usize, usize)>,
    data: Vec<u8>,
}

impl Node {
    fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) {
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

    fn length(&self) -> usize {
        PAGE_HEADER + ELEMENT * self.elements.len() + self.data.len()
    }

    fn first_key(&self) -> &[u8] {
        let length = self.elements.first().map_or(0, |(_, key, _)| *key);
        self.data.get(..length).unwrap_or_default()
    }

    fn write_to(&self, out: &mut impl Write, id: u64, flags: u16, overflow: u32) -> io::Result<()> {
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

fn page_header(id: u64, flags: u16, count: usize, overflow: u32) -> [u8; PAGE_HEADER] {
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

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
