//! Walks all pages once and finds everything that bbolt's own check finds, and what it does not look at: inline buckets,
//! element bounds, leaf depth, the length of the file (etcd-format.md §2.8). Hands each sound row to a visitor on the way.

mod freelist;

use std::thread;

use self::freelist::{PageSet, check_freelist};
use super::node::{BucketRoot, Node, Row};
use super::page::{FLAG_META, NO_FREELIST, PageHeader};
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
    let mut walk = Walk::new(database, findings, None);
    walk.everything(visitor);
    let (complete, seen) = (walk.complete, walk.seen);
    check_free(database, findings, seen, complete)
}

/// The same with two threads: the later half of one bucket's tree is shown to a visitor of its own. Both halves lie between the
/// keys of the root's branches, so that what is in order in each is in order as a whole.
pub fn walk_in_halves<'a, V: Visitor<'a> + Send>(
    database: &Database<'a>,
    findings: &mut Findings,
    bucket: &'a [u8],
    (first, second): (&mut V, &mut V),
) -> bool {
    let Some((root, middle)) = middle_of(database, bucket) else {
        return walk(database, findings, first);
    };
    check_metas(database, findings);
    let half = |later| {
        Some(Half {
            root,
            middle,
            later,
        })
    };
    let mut walk = Walk::new(database, findings, half(false));
    let (later, more) = thread::scope(|scope| {
        let later = scope.spawn(|| {
            let mut findings = Findings::default();
            let mut walk = Walk::new(database, &mut findings, half(true));
            walk.rows_of(bucket, BucketRoot::Page(root), second);
            ((walk.complete, walk.seen, walk.half_depth), findings)
        });
        walk.everything(first);
        later
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (complete, seen, depth) = later;
    walk.complete &= complete;
    if !walk.seen.absorb(&seen) {
        let problem = "a page belongs to both halves of its tree";
        let place = format!("bucket {}", bucket.escape_ascii());
        walk.findings.error("PageShared", place, problem);
        walk.complete = false;
    }
    if walk.half_depth != depth {
        let problem = "leaves of its two halves lie at different depths";
        let place = format!("bucket {}", bucket.escape_ascii());
        walk.findings.error("LeafDepthUneven", place, problem);
    }
    let (complete, seen) = (walk.complete, walk.seen);
    findings.absorb(more);
    check_free(database, findings, seen, complete)
}

/// The root of a bucket's tree and the child in the middle of it, when there are two at least.
fn middle_of(database: &Database<'_>, bucket: &[u8]) -> Option<(u64, usize)> {
    let root = database.bucket(bucket).ok()??.root_page()?;
    let (node, _) = database.node(root).ok()?;
    (!node.is_leaf() && node.count() >= 2).then(|| (root, node.count() / 2))
}

fn check_free(
    database: &Database<'_>,
    findings: &mut Findings,
    mut seen: PageSet,
    complete: bool,
) -> bool {
    if database.meta().freelist != NO_FREELIST {
        check_freelist(database, findings, &mut seen, complete);
    }
    complete
}

/// One half of a tree: the children of its root before the middle, or those from there on.
#[derive(Clone, Copy)]
struct Half {
    root: u64,
    middle: usize,
    later: bool,
}

struct Walk<'w, 'a> {
    database: &'w Database<'a>,
    findings: &'w mut Findings,
    seen: PageSet,
    complete: bool,
    half: Option<Half>,
    /// How deep the leaves of that half lie.
    half_depth: Option<usize>,
}

/// A page on the way down, and the keys that its parent allows in it.
struct Frame<'a> {
    node: Node<'a>,
    next: usize,
    end: usize,
    floor: usize,
    low: &'a [u8],
    high: Option<&'a [u8]>,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn new(database: &'w Database<'a>, findings: &'w mut Findings, half: Option<Half>) -> Self {
        let pages = usize::try_from(database.meta().high_water).unwrap_or(usize::MAX);
        let held = database.image().len() / database.meta().page_size as usize;
        Self {
            database,
            findings,
            // A number of pages that the file does not hold must not become memory.
            seen: PageSet::new(pages.min(held)),
            complete: true,
            half,
            half_depth: None,
        }
    }

    fn everything(&mut self, visitor: &mut impl Visitor<'a>) {
        let root = BucketRoot::Page(self.database.meta().root);
        self.tree(root, &mut |walk, row| walk.bucket(row, visitor));
    }

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
            Ok(root) => self.rows_of(row.key, root, visitor),
            Err(fault) => {
                self.findings.fault(fault);
                self.complete = false;
            }
        }
    }

    fn rows_of(&mut self, name: &[u8], root: BucketRoot<'a>, visitor: &mut impl Visitor<'a>) {
        self.tree(root, &mut |walk, row| {
            if row.is_bucket {
                let problem = "a bucket lies inside a bucket, which etcd never writes";
                let place = format!("bucket {}", name.escape_ascii());
                walk.findings.error("NestedBucket", place, problem);
                walk.complete = false;
            } else {
                visitor.row(row, walk.findings);
            }
        });
    }

    fn tree<F: FnMut(&mut Self, &Row<'a>)>(&mut self, root: BucketRoot<'a>, each: &mut F) {
        let mut frames: Vec<Frame<'a>> = Vec::new();
        let half = self
            .half
            .filter(|half| matches!(root, BucketRoot::Page(page) if page == half.root));
        let first = match (root, half) {
            // The other half has it.
            (BucketRoot::Page(page), Some(Half { later: true, .. })) => {
                self.database.node(page).ok().map(|(node, _)| node)
            }
            (BucketRoot::Page(page), _) => self.enter(page),
            (BucketRoot::Inline(node), _) => Some(node),
        };
        if let Some(node) = first {
            let mut frame = frame(node, &[], None);
            if let Some(half) = half {
                frame.take_half(half);
            }
            frames.push(frame);
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
            if top.next >= top.end {
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
        if half.is_some() {
            self.half_depth = leaf_depth;
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
        node.touch();
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
            // Keys that ascend lie between the first and the last.
            let ends = index + 1 == node.count();
            if (index == 0 && row.key < *low) || (ends && high.is_some_and(|high| row.key >= high))
            {
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
        end: node.count(),
        floor: node.elements_end(),
        low,
        high,
    }
}

impl Frame<'_> {
    fn take_half(&mut self, half: Half) {
        if !half.later {
            self.end = half.middle;
            return;
        }
        self.next = half.middle;
        for index in 0..half.middle {
            // Only to know where their keys end: the other half finds what is wrong with them.
            let _ = self.node.child(index, &mut self.floor);
        }
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
