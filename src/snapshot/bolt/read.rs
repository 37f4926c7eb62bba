//! Finds buckets and walks over rows in order, or from a key on. Memory is a frame for each level of the tree, and time is
//! bounded by the pages of the image, whatever it says.

use super::Fault;
use super::node::{BucketRoot, Node, Row};
use super::page::{MAX_IMAGE, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Meta, PAGE_HEADER, PageHeader};

/// Levels of a tree that are followed. bbolt puts at least two children below a branch, so 2^40 pages need 40.
pub const MAX_DEPTH: usize = 48;

/// A bbolt image.
#[derive(Debug, Clone, Copy)]
pub struct Database<'a> {
    image: &'a [u8],
    meta: Meta,
}

/// A bucket of a database.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    database: Database<'a>,
    root: BucketRoot<'a>,
}

/// Rows in the order of their keys; ends after the first fault.
#[derive(Debug)]
pub struct Rows<'a> {
    database: Database<'a>,
    frames: Vec<Frame<'a>>,
    /// The root, until the first row is asked for.
    start: Option<BucketRoot<'a>>,
    last: &'a [u8],
    /// What the first row's key may not be less than, as branches that lie would have it.
    least: Box<[u8]>,
    /// Pages that may still be read: a tree has no more than the image.
    budget: u64,
    buckets: bool,
}

#[derive(Debug)]
struct Frame<'a> {
    node: Node<'a>,
    next: usize,
    floor: usize,
}

impl<'a> Database<'a> {
    /// Opens an image by the newer of its valid meta records.
    ///
    /// # Errors
    /// When it has none, or is impossibly long.
    pub fn open(image: &'a [u8]) -> Result<Self, Fault> {
        if image.len() as u64 >= MAX_IMAGE {
            let problem = "it is longer than a terabyte, which no etcd is";
            return Err(Fault::new("ImageTooLong", "file", problem));
        }
        match metas(image) {
            (Ok(first), Ok(second)) if second.transaction > first.transaction => {
                Ok(Self::with(image, second))
            }
            (Ok(meta), _) | (Err(_), Ok(meta)) => Ok(Self::with(image, meta)),
            (Err(problem), Err(_)) => Err(Fault::new(
                "NotBolt",
                "page 0",
                format!("no meta page is valid: {problem}"),
            )),
        }
    }

    fn with(image: &'a [u8], meta: Meta) -> Self {
        Self { image, meta }
    }

    /// The image.
    pub fn image(&self) -> &'a [u8] {
        self.image
    }

    /// The meta record in force.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The bytes of its pages: the length of the image in a snapshot, and less than that in a file that bbolt grew.
    pub fn size(&self) -> u64 {
        self.meta
            .high_water
            .saturating_mul(u64::from(self.meta.page_size))
    }

    /// Header and bytes of a page and those that belong to it, and where they begin in the image.
    pub(super) fn page(&self, id: u64) -> Result<(PageHeader, &'a [u8], usize), Fault> {
        let fault = |code, problem: String| Fault::new(code, format!("page {id}"), problem);
        if id < 2 || id >= self.meta.high_water {
            let last = self.meta.high_water.saturating_sub(1);
            let problem = format!("a tree refers to it, but its pages are 2 to {last}");
            return Err(fault("PageOutOfRange", problem));
        }
        let outside = || {
            fault(
                "PageOutOfRange",
                "it lies behind the end of the file".to_owned(),
            )
        };
        let at = id
            .checked_mul(u64::from(self.meta.page_size))
            .and_then(|at| usize::try_from(at).ok())
            .ok_or_else(outside)?;
        let rest = self.image.get(at..).ok_or_else(outside)?;
        let header = PageHeader::decode(rest).ok_or_else(outside)?;
        if header.id != id {
            let problem = format!("it says that it is page {}", header.id);
            return Err(fault("PageIdWrong", problem));
        }
        let pages = u64::from(header.overflow) + 1;
        let length = pages.saturating_mul(u64::from(self.meta.page_size));
        let bytes = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length));
        match bytes {
            Some(bytes) if id + pages <= self.meta.high_water => Ok((header, bytes, at)),
            _ => Err(fault(
                "PageRunOutOfRange",
                format!("it claims {pages} pages, more than there are"),
            )),
        }
    }

    /// The branch or leaf page of a number, and the pages that it takes.
    pub(super) fn node(&self, id: u64) -> Result<(Node<'a>, u64), Fault> {
        let (header, bytes, at) = self.page(id)?;
        let node = Node::new(bytes, at, id, &header)?;
        Ok((node, u64::from(header.overflow) + 1))
    }

    /// The bucket of a name.
    ///
    /// # Errors
    /// When the way to it is broken.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a>>, Fault> {
        let mut names = self.rows_of(BucketRoot::Page(self.meta.root), true);
        names.seek(name)?;
        match names.next().transpose()? {
            Some(row) if row.key == name => self.bucket_of(&row).map(Some),
            _ => Ok(None),
        }
    }

    /// All buckets in the order of their names.
    pub fn buckets(&self) -> impl Iterator<Item = Result<(&'a [u8], Bucket<'a>), Fault>> + use<'a> {
        let database = *self;
        self.rows_of(BucketRoot::Page(self.meta.root), true)
            .map(move |row| {
                let row = row?;
                Ok((row.key, database.bucket_of(&row)?))
            })
    }

    fn bucket_of(&self, row: &Row<'a>) -> Result<Bucket<'a>, Fault> {
        Ok(Bucket {
            database: *self,
            root: row.bucket()?,
        })
    }

    fn rows_of(&self, root: BucketRoot<'a>, buckets: bool) -> Rows<'a> {
        Rows {
            database: *self,
            frames: Vec::new(),
            start: Some(root),
            last: &[],
            least: Box::default(),
            budget: self.meta.high_water,
            buckets,
        }
    }
}

impl<'a> Bucket<'a> {
    pub(super) fn database(&self) -> &Database<'a> {
        &self.database
    }

    /// The page of its root, unless the bucket lies in its parent's.
    pub(super) fn root_page(&self) -> Option<u64> {
        match self.root {
            BucketRoot::Page(page) => Some(page),
            BucketRoot::Inline(_) => None,
        }
    }

    /// Its only node, when that lies in its parent's page.
    pub(super) fn inline(&self) -> Option<Node<'a>> {
        match self.root {
            BucketRoot::Page(_) => None,
            BucketRoot::Inline(node) => Some(node),
        }
    }

    /// All rows.
    pub fn rows(&self) -> Rows<'a> {
        self.database.rows_of(self.root, false)
    }

    /// The rows whose keys are `key` or greater.
    ///
    /// # Errors
    /// When the way there is broken.
    pub fn rows_from(&self, key: &[u8]) -> Result<Rows<'a>, Fault> {
        let mut rows = self.rows();
        rows.seek(key)?;
        rows.least = key.into();
        Ok(rows)
    }

    /// The last row.
    ///
    /// # Errors
    /// When the way there is broken.
    pub fn last(&self) -> Result<Option<Row<'a>>, Fault> {
        let mut rows = self.rows();
        rows.seek_last()?;
        rows.next().transpose()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the way there is broken.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>, Fault> {
        let row = self.rows_from(key)?.next().transpose()?;
        Ok(row.filter(|row| row.key == key).map(|row| row.value))
    }
}

impl<'a> Rows<'a> {
    fn enter(&mut self, page: u64) -> Result<(), Fault> {
        let (node, pages) = self.database.node(page)?;
        let place = || format!("page {page}");
        self.budget = self.budget.checked_sub(pages).ok_or_else(|| {
            Fault::new(
                "PageShared",
                place(),
                "pages belong to more than one branch",
            )
        })?;
        if self.frames.len() >= MAX_DEPTH {
            let problem = format!("the tree is deeper than {MAX_DEPTH} levels");
            return Err(Fault::new("TreeTooDeep", place(), problem));
        }
        self.push(node);
        Ok(())
    }

    fn push(&mut self, node: Node<'a>) {
        self.frames.push(Frame {
            node,
            next: 0,
            floor: node.elements_end(),
        });
    }

    fn begin(&mut self) -> Result<(), Fault> {
        match self.start.take() {
            Some(BucketRoot::Page(page)) => self.enter(page),
            Some(BucketRoot::Inline(node)) => {
                self.push(node);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Moves before the first row whose key is `key` or greater; only before the first row was asked for.
    fn seek(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.begin()?;
        while let Some(frame) = self.frames.last_mut() {
            let (mut low, mut high) = (0, frame.node.count());
            while low < high {
                let middle = low + (high - low) / 2;
                let found = frame.node.key(middle)?;
                // In a branch the child to enter is the last one whose separator is not beyond the key.
                let before = if frame.node.is_leaf() {
                    found < key
                } else {
                    found <= key
                };
                if before {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if frame.node.is_leaf() {
                frame.next = low;
                break;
            }
            let index = low.saturating_sub(1);
            if index >= frame.node.count() {
                break;
            }
            frame.next = index + 1;
            let child = frame.node.child(index, &mut frame.floor)?;
            self.enter(child.page)?;
        }
        Ok(())
    }

    /// Moves before the last row.
    fn seek_last(&mut self) -> Result<(), Fault> {
        self.begin()?;
        while let Some(frame) = self.frames.last_mut() {
            let Some(last) = frame.node.count().checked_sub(1) else {
                break;
            };
            if frame.node.is_leaf() {
                frame.next = last;
                break;
            }
            frame.next = last + 1;
            let child = frame.node.child(last, &mut frame.floor)?;
            self.enter(child.page)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Row<'a>>, Fault> {
        self.begin()?;
        loop {
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            let index = frame.next;
            if index >= frame.node.count() {
                self.frames.pop();
                continue;
            }
            frame.next += 1;
            if !frame.node.is_leaf() {
                let child = frame.node.child(index, &mut frame.floor)?;
                self.enter(child.page)?;
                continue;
            }
            let row = frame.node.row(index, &mut frame.floor)?;
            if row.key <= self.last {
                let problem = "its key is not greater than the one before";
                return Err(frame.node.fault("KeyOrderWrong", index, problem));
            }
            if row.key < &*std::mem::take(&mut self.least) {
                let problem = "its key is less than the branches above it say";
                return Err(frame.node.fault("KeyOrderWrong", index, problem));
            }
            if row.is_bucket != self.buckets {
                let problem = if row.is_bucket {
                    "a bucket lies inside a bucket, which etcd never writes"
                } else {
                    "a row lies where only buckets may"
                };
                return Err(frame.node.fault("NestedBucket", index, problem));
            }
            self.last = row.key;
            return Ok(Some(row));
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if matches!(step, Some(Err(_))) {
            self.frames.clear();
        }
        step
    }
}

/// Both meta records, or what is wrong with them. The page size is that of the first; where that is broken, the second
/// is sought at each place where it can be.
pub(super) fn metas(image: &[u8]) -> (Result<Meta, &'static str>, Result<Meta, &'static str>) {
    let at = |page: usize| match image.get(page + PAGE_HEADER..) {
        Some(bytes) => Meta::decode(bytes),
        None => Err("it is cut off"),
    };
    let first = at(0);
    if let Ok(meta) = &first {
        let second = at(meta.page_size as usize).and_then(|second| {
            if second.page_size == meta.page_size {
                Ok(second)
            } else {
                Err("its page size is not that of the other meta page")
            }
        });
        return (first, second);
    }
    let mut size = MIN_PAGE_SIZE;
    while size <= MAX_PAGE_SIZE {
        if let Ok(meta) = at(size as usize)
            && meta.page_size == size
        {
            return (first, Ok(meta));
        }
        size *= 2;
    }
    (first, Err("it is not found"))
}
