//! Walks all pages once and finds everything that bbolt's own check finds, and what it does not look at: inline buckets,
//! element bounds, leaf depth, the length of the file (etcd-format.md §2.8). Hands each sound row to a visitor on the way.

use super::node::{BucketRoot, Node, Row};
use super::page::{
    COUNT_ELSEWHERE, FLAG_FREELIST, FLAG_META, NO_FREELIST, PAGE_HEADER, PageHeader, u64_at,
};
use super::read::{Database, MAX_DEPTH, metas};
use crate::snapshot::findings::Findings;

/// Who is shown the rows.
pub trait Visitor<'a> {
    /// A bucket begins; its rows follow, in order unless a finding says otherwise.
    fn bucket(&mut self, name: &'a [u8], findings: &mut Findings);
    /// A row of that bucket.
    fn row(&mut self, row: &Row<'a>, findings: &mut Findings);
}

/// Checks the whole image. Says whether every row was shown: false when a part could not be entered.
pub fn walk<'a>(
    database: &Database<'a>,
    findings: &mut Findings,
    visitor: &mut impl Visitor<'a>,
) -> bool {
    check_metas(database, findings);
    let pages = usize::try_from(database.meta().high_water).unwrap_or(usize::MAX);
    let held = database.image().len() / database.meta().page_size as usize;
    let mut walk = Walk {
        database,
        findings,
        // A number of pages that the file does not hold must not become memory.
        seen: PageSet::new(pages.min(held)),
        complete: true,
    };
    let root = BucketRoot::Page(database.meta().root);
    walk.tree(root, &mut |walk, row| walk.bucket(row, visitor));
    let complete = walk.complete;
    let Walk { mut seen, .. } = walk;
    if database.meta().freelist != NO_FREELIST {
        check_freelist(database, findings, &mut seen, complete);
    }
    complete
}

struct Walk<'w, 'a> {
    database: &'w Database<'a>,
    findings: &'w mut Findings,
    seen: PageSet,
    complete: bool,
}

/// A page on the way down, and the keys that its parent allows in it.
struct Frame<'a> {
    node: Node<'a>,
    next: usize,
    floor: usize,
    low: &'a [u8],
    high: Option<&'a [u8]>,
}

impl<'a> Walk<'_, 'a> {
    fn bucket(&mut self, row: &Row<'a>, visitor: &mut impl Visitor<'a>) {
        let name = row.key.escape_ascii();
        if !row.is_bucket {
            let problem = "a row lies where only buckets may";
            self.findings
                .error("RootRow", format_args!("key {name}"), problem);
            return;
        }
        visitor.bucket(row.key, self.findings);
        match row.bucket() {
            Ok(root) => self.tree(root, &mut |walk, row| {
                if row.is_bucket {
                    let problem = "a bucket lies inside a bucket, which etcd never writes";
                    walk.findings
                        .error("NestedBucket", format_args!("bucket {name}"), problem);
                    walk.complete = false;
                } else {
                    visitor.row(row, walk.findings);
                }
            }),
            Err(fault) => {
                self.findings.fault(fault);
                self.complete = false;
            }
        }
    }

    fn tree<F: FnMut(&mut Self, &Row<'a>)>(&mut self, root: BucketRoot<'a>, each: &mut F) {
        let mut frames: Vec<Frame<'a>> = Vec::new();
        let first = match root {
            BucketRoot::Page(page) => self.enter(page),
            BucketRoot::Inline(node) => Some(node),
        };
        if let Some(node) = first {
            frames.push(frame(node, &[], None));
        }
        let mut leaf_depth = None;
        let mut last: &'a [u8] = &[];
        while let Some(top) = frames.last_mut() {
            if top.next == 0 {
                self.begin(top);
                if top.node.is_leaf() {
                    let depth = self.leaf(&frames, &mut last, each);
                    if *leaf_depth.get_or_insert(depth) != depth {
                        let place = frames.last().map(|top| top.node.place());
                        self.findings.error(
                            "LeafDepthUneven",
                            place.unwrap_or_default(),
                            format_args!("a leaf lies {depth} levels down, others lie elsewhere"),
                        );
                    }
                    frames.pop();
                    continue;
                }
            }
            if top.next >= top.node.count() {
                frames.pop();
                continue;
            }
            let index = top.next;
            top.next += 1;
            if let Some(below) = self.descend(top, index) {
                if frames.len() >= MAX_DEPTH {
                    let problem = format_args!("the tree is deeper than {MAX_DEPTH} levels");
                    self.findings
                        .error("TreeTooDeep", below.node.place(), problem);
                    self.complete = false;
                    continue;
                }
                frames.push(below);
            }
        }
    }

    /// What is wrong with a page as a whole.
    fn begin(&mut self, top: &Frame<'a>) {
        if top.node.count() == 0 && !top.node.is_leaf() {
            let problem = "a branch has no children";
            self.findings
                .error("BranchEmpty", top.node.place(), problem);
            self.complete = false;
        }
    }

    /// Shows the rows of the leaf on top; says at which depth it lies.
    fn leaf<F: FnMut(&mut Self, &Row<'a>)>(
        &mut self,
        frames: &[Frame<'a>],
        last: &mut &'a [u8],
        each: &mut F,
    ) -> usize {
        let Some(Frame {
            node, low, high, ..
        }) = frames.last()
        else {
            return 0;
        };
        if node.count() == 0 && frames.len() > 1 {
            let problem = "a leaf below a branch has no rows, which bbolt never leaves";
            self.findings.warning("LeafEmpty", node.place(), problem);
        }
        let mut floor = node.elements_end();
        for index in 0..node.count() {
            let row = match node.row(index, &mut floor) {
                Ok(row) => row,
                Err(fault) => {
                    self.findings.fault(fault);
                    self.complete = false;
                    continue;
                }
            };
            if row.key <= *last {
                let problem = "its key is not greater than the one before";
                let fault = node.fault("KeyOrderWrong", index, problem);
                self.findings.fault(fault);
            }
            if (index == 0 && row.key < *low) || high.is_some_and(|high| row.key >= high) {
                let problem = "its key lies outside what the branch above it allows";
                let fault = node.fault("KeyOutsideParent", index, problem);
                self.findings.fault(fault);
            }
            *last = row.key;
            each(self, &row);
        }
        frames.len()
    }

    fn descend(&mut self, top: &mut Frame<'a>, index: usize) -> Option<Frame<'a>> {
        let child = match top.node.child(index, &mut top.floor) {
            Ok(child) => child,
            Err(fault) => {
                self.findings.fault(fault);
                self.complete = false;
                return None;
            }
        };
        // A fault of the next element is found when its turn comes.
        let next = (index + 1 < top.node.count())
            .then(|| top.node.key(index + 1).ok())
            .flatten();
        if next.is_some_and(|next| next <= child.separator) {
            let problem = "its key is not smaller than the next one";
            self.findings
                .fault(top.node.fault("KeyOrderWrong", index, problem));
        }
        let outside = top.high.is_some_and(|high| child.separator >= high);
        if outside || (index == 0 && child.separator < top.low) {
            let problem = "its key lies outside what the branch above it allows";
            self.findings
                .fault(top.node.fault("KeyOutsideParent", index, problem));
        }
        let node = self.enter(child.page)?;
        Some(frame(node, child.separator, next.or(top.high)))
    }

    /// The node of a page, unless it cannot be read or was already entered from elsewhere.
    fn enter(&mut self, page: u64) -> Option<Node<'a>> {
        match self.database.node(page) {
            Ok((node, pages)) => {
                if self.seen.take(page, pages) {
                    return Some(node);
                }
                let problem = "it belongs to more than one branch";
                self.findings
                    .error("PageShared", format_args!("page {page}"), problem);
            }
            Err(fault) => self.findings.fault(fault),
        }
        self.complete = false;
        None
    }
}

fn frame<'a>(node: Node<'a>, low: &'a [u8], high: Option<&'a [u8]>) -> Frame<'a> {
    Frame {
        node,
        next: 0,
        floor: node.elements_end(),
        low,
        high,
    }
}

fn check_metas(database: &Database<'_>, findings: &mut Findings) {
    let image = database.image();
    let (first, second) = metas(image);
    let page_size = u64::from(database.meta().page_size);
    for (page, meta) in [(0, first), (1, second)] {
        match meta {
            Err(problem) => findings.warning(
                "MetaInvalid",
                format_args!("page {page}"),
                format_args!("the meta page cannot be used: {problem}; the other one is in force"),
            ),
            Ok(_) => {
                let at = usize::try_from(page * page_size).unwrap_or(usize::MAX);
                let header = image.get(at..).and_then(PageHeader::decode);
                if header.is_none_or(|header| header.id != page || header.flags != FLAG_META) {
                    let problem = "the header of the meta page does not say that it is one";
                    findings.warning("MetaInvalid", format_args!("page {page}"), problem);
                }
            }
        }
    }
    let (length, size) = (image.len() as u64, database.size());
    if length < size {
        findings.error(
            "ImageTooShort",
            "file",
            format_args!("the image has {length} bytes, its pages need {size}: the file was cut"),
        );
    }
    let root = database.meta().root_sequence;
    if root != 0 {
        let problem = format_args!("the root bucket counts {root}, which etcd leaves 0");
        findings.info("RootSequence", "meta page", problem);
    }
}

fn check_freelist(
    database: &Database<'_>,
    findings: &mut Findings,
    seen: &mut PageSet,
    complete: bool,
) {
    let page = database.meta().freelist;
    let place = format!("freelist page {page}");
    let mut broken = |problem: &str| findings.error("FreelistBroken", &place, problem);
    let (header, bytes) = match database.page(page) {
        Ok((header, bytes, _)) => (header, bytes),
        Err(fault) => return findings.fault(fault),
    };
    if header.flags != FLAG_FREELIST {
        return broken("its flags are not those of a freelist");
    }
    if !seen.take(page, u64::from(header.overflow) + 1) {
        return broken("it is part of a bucket too");
    }
    let (count, start) = if header.count == COUNT_ELSEWHERE {
        let count = u64_at(bytes, PAGE_HEADER).unwrap_or(u64::MAX);
        (
            usize::try_from(count).unwrap_or(usize::MAX),
            PAGE_HEADER + 8,
        )
    } else {
        (usize::from(header.count), PAGE_HEADER)
    };
    let end = count
        .checked_mul(8)
        .and_then(|length| length.checked_add(start));
    let Some(ids) = end.and_then(|end| bytes.get(start..end)) else {
        return broken("it counts more pages than fit in it");
    };
    let mut free = PageSet::new(seen.pages);
    for index in 0..count {
        let id = u64_at(ids, index * 8).unwrap_or_default();
        if id < 2 || id >= database.meta().high_water {
            let problem = format_args!("it lists page {id}, which does not exist");
            findings.error("FreelistBroken", &place, problem);
        } else if !free.take(id, 1) {
            let problem = format_args!("it lists page {id} twice");
            findings.error("FreelistDuplicate", &place, problem);
        } else if seen.has(id) {
            let problem = "it is in use, and free by the freelist: the next write would destroy it";
            findings.error("PageFreeInUse", format_args!("page {id}"), problem);
        }
    }
    // Below a part that could not be entered everything looks lost.
    if complete {
        check_leaks(findings, seen, &free);
    }
}

/// Pages that are neither used nor free are lost space; nothing is wrong with the rows.
fn check_leaks(findings: &mut Findings, seen: &PageSet, free: &PageSet) {
    let mut first = None;
    for page in 2..=seen.pages as u64 {
        let lost = page < seen.pages as u64 && !seen.has(page) && !free.has(page);
        match (lost, first) {
            (true, None) => first = Some(page),
            (false, Some(start)) => {
                findings.warning(
                    "PageLeaked",
                    format_args!("pages {start} to {}", page - 1),
                    "they are neither in use nor free; a defragmentation gets them back",
                );
                first = None;
            }
            _ => {}
        }
    }
}

/// A bit a page.
struct PageSet {
    bits: Vec<u64>,
    pages: usize,
}

impl PageSet {
    fn new(pages: usize) -> Self {
        Self {
            bits: vec![0; pages.div_ceil(64)],
            pages,
        }
    }

    /// Puts a run of pages in; false when one of them was in already.
    fn take(&mut self, first: u64, pages: u64) -> bool {
        let mut fresh = true;
        for page in first..first.saturating_add(pages) {
            let index = usize::try_from(page / 64).unwrap_or(usize::MAX);
            let Some(word) = self.bits.get_mut(index) else {
                return false;
            };
            let bit = 1_u64 << (page % 64);
            fresh &= *word & bit == 0;
            *word |= bit;
        }
        fresh
    }

    fn has(&self, page: u64) -> bool {
        let index = usize::try_from(page / 64).unwrap_or(usize::MAX);
        self.bits
            .get(index)
            .is_some_and(|word| word & (1 << (page % 64)) != 0)
    }
}
