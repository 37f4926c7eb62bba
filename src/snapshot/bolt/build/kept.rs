//! Keeps the tree of a bucket where it lies when the rest of an image is written anew behind its pages, and adds a row to its end.

use std::io::{Seek, Write};

use super::tree::{Child, MAX_COUNT, Node as Leaf, Pages, tree_at, write_branch};
use super::{BuildError, ImageBuilder};
use crate::snapshot::bolt::Fault;
use crate::snapshot::bolt::page::{BUCKET_ELEMENT, FLAG_LEAF, is_page_size};
use crate::snapshot::bolt::read::{Bucket, Database, MAX_DEPTH};

/// A bucket's tree that is to stay, and the way to its last row.
pub struct Kept<'a> {
    root: u64,
    /// The rows of its last leaf.
    leaf: Vec<(&'a [u8], &'a [u8])>,
    /// The children of the branches above that, the lowest first: separators and pages.
    branches: Vec<Vec<(&'a [u8], u64)>>,
}

impl<'a> Bucket<'a> {
    /// What must be known of it to keep its pages; nothing when it has none, or a row more would be too much for its last leaf.
    ///
    /// # Errors
    /// When the way to its last row is broken.
    pub fn kept(&self) -> Result<Option<Kept<'a>>, Fault> {
        let Some(root) = self.root_page() else {
            return Ok(None);
        };
        let (mut page, mut branches) = (root, Vec::new());
        loop {
            let (node, _) = self.database().node(page)?;
            let mut floor = node.elements_end();
            if node.is_leaf() {
                let rows = (0..node.count()).map(|index| node.row(index, &mut floor));
                let rows = rows.map(|row| row.map(|row| (row.key, row.value)));
                let leaf = rows.collect::<Result<Vec<_>, Fault>>()?;
                branches.reverse();
                let room = leaf.len() < MAX_COUNT;
                return Ok(room.then_some(Kept {
                    root,
                    leaf,
                    branches,
                }));
            }
            let children = (0..node.count()).map(|index| node.child(index, &mut floor));
            let children = children.map(|child| child.map(|child| (child.separator, child.page)));
            let children = children.collect::<Result<Vec<_>, Fault>>()?;
            let last = children.last().filter(|_| branches.len() < MAX_DEPTH);
            let Some((_, last)) = last else {
                let problem = "no leaf lies at its end";
                return Err(Fault::new("BranchEmpty", node.place(), problem));
            };
            page = *last;
            branches.push(children);
        }
    }

    /// Pages that its tree takes.
    ///
    /// # Errors
    /// When a page of it is broken, or the tree has more pages than the image.
    pub fn pages(&self) -> Result<u64, Fault> {
        self.nodes().map(|node| node.map(|(_, pages)| pages)).sum()
    }
}

impl<W: Write + Seek> ImageBuilder<W> {
    /// Goes on behind the pages of `image`, which `out` holds already and at whose end it stands. Nothing refers to any of them
    /// until a bucket is kept.
    ///
    /// # Errors
    /// When the page size is impossible.
    pub fn behind(out: W, image: &Database<'_>) -> Result<Self, BuildError> {
        let meta = image.meta();
        if !is_page_size(meta.page_size) {
            return Err(BuildError::PageSize(meta.page_size));
        }
        Ok(Self::at(out, meta.page_size as usize, meta.high_water))
    }

    /// Adds a bucket whose pages stay, with one row behind its last when there is such a row: the pages on the way to it are
    /// written anew, and may take more room than one page until etcd writes them next.
    ///
    /// # Errors
    /// When the name is not greater than the last bucket's, the row's key not greater than the last, or the output breaks.
    pub fn keep(
        &mut self,
        name: &[u8],
        kept: &Kept<'_>,
        row: Option<(&[u8], &[u8])>,
    ) -> Result<(), BuildError> {
        self.close_bucket()?;
        let mut pages = Pages {
            out: &mut self.out,
            size: self.page_size,
            next: &mut self.next_page,
        };
        let mut root = kept.root;
        if let Some(row) = row {
            let last = kept.leaf.last().map(|(key, _)| *key);
            if last.is_some_and(|last| last >= row.0) {
                return Err(BuildError::Row {
                    bucket: String::from_utf8_lossy(name).into_owned(),
                    row: kept.leaf.len() as u64,
                    problem: "its key is not greater than the one before it",
                });
            }
            let mut leaf = Leaf::default();
            for (key, value) in kept.leaf.iter().copied().chain([row]) {
                leaf.push(0, key, value);
            }
            root = pages.write(leaf.length(), |out, id, overflow| {
                leaf.write_to(out, id, FLAG_LEAF, overflow)
            })?;
            for branch in &kept.branches {
                let mut children: Vec<Child> = branch
                    .iter()
                    .map(|(separator, page)| Child {
                        first_key: separator.to_vec(),
                        page: *page,
                    })
                    .collect();
                if let Some(last) = children.last_mut() {
                    last.page = root;
                }
                root = write_branch(&mut pages, children)?.page;
            }
        }
        self.root
            .add(&mut pages, BUCKET_ELEMENT, name, &tree_at(root))
    }
}
