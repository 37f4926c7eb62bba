//! Writes a bbolt image front to back from sorted rows: full pages, no free ones, nothing left of deleted rows. Memory holds
//! one page a level of the tree, whatever the size (etcd-format.md §2.9).

mod kept;
mod tree;

use std::io::{self, Seek, SeekFrom, Write};

pub use self::kept::Kept;
use self::tree::{Pages, Tree, page_header, tree_at};
use super::page::{BUCKET_ELEMENT, FLAG_LEAF, FLAG_META, Meta, NO_FREELIST, is_page_size};

/// The page size of an image when its source says nothing better.
pub const DEFAULT_PAGE_SIZE: u32 = 4096;

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
        Ok(Self::at(out, page, 2))
    }

    fn at(out: W, page_size: usize, next_page: u64) -> Self {
        Self {
            out,
            page_size,
            next_page,
            root: Tree::new(b""),
            bucket: None,
        }
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
            tree_at(tree.close(&mut pages)?)
        };
        self.root
            .add(&mut pages, BUCKET_ELEMENT, &tree.name, &value)
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
