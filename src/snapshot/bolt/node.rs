//! A branch or leaf page: the elements in it, each checked against the page's bounds as it is read.

use std::hint::black_box;
use std::ops::Range;

use super::Fault;
use super::page::{
    BUCKET_ELEMENT, BUCKET_HEADER, CACHE_LINE, ELEMENT, FLAG_BRANCH, FLAG_LEAF, MAX_KEY,
    PAGE_HEADER, PageHeader, u32_at, u64_at,
};

/// Bytes of a node that are touched: a page of the usual size, and of a larger one what fits in the nearest cache.
const TOUCHED: usize = 16 << 10;

/// A branch or leaf page whose extent lies inside the image.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Everything from its header to the end of its last page.
    bytes: &'a [u8],
    /// Where it begins in the image.
    at: usize,
    /// Its page number; 0 for a bucket that lies in its parent's value.
    id: u64,
    leaf: bool,
    count: usize,
}

/// A row of a leaf page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; for a bucket its root and sequence.
    pub value: &'a [u8],
    /// Where its element stands in the image, which names the row uniquely.
    pub element: usize,
    /// Where its key begins in the image; the value follows at once.
    pub data: usize,
    /// Whether the value is a bucket.
    pub is_bucket: bool,
}

/// An element of a branch page.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// No key below this child is smaller.
    pub separator: &'a [u8],
    /// Its page.
    pub page: u64,
}

/// Where a bucket's rows are.
#[derive(Debug, Clone, Copy)]
pub enum BucketRoot<'a> {
    /// In a tree of pages.
    Page(u64),
    /// In the value itself.
    Inline(Node<'a>),
}

impl<'a> Node<'a> {
    /// The node of a page header and its bytes, which begin at `at` in the image and end with its last page.
    pub fn new(bytes: &'a [u8], at: usize, id: u64, header: &PageHeader) -> Result<Self, Fault> {
        let leaf = match header.flags {
            FLAG_LEAF => true,
            FLAG_BRANCH => false,
            other => {
                return Err(Fault::new(
                    "PageKindWrong",
                    format!("page {id}"),
                    format!("a page of a tree has the flags {other:#06x}, not branch or leaf"),
                ));
            }
        };
        let node = Self {
            bytes,
            at,
            id,
            leaf,
            count: usize::from(header.count),
        };
        if node.elements_end() > bytes.len() {
            let problem = format!("{} elements do not fit in it", header.count);
            return Err(Fault::new("ElementOutOfBounds", node.place(), problem));
        }
        Ok(node)
    }

    /// Whether it holds rows; else it holds children.
    pub fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// Elements in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads its first bytes, one a cache line, and does nothing with them: rows lie apart, and who went from one to the next
    /// would wait for memory at each of them.
    pub fn touch(&self) {
        let lines = self.bytes.iter().take(TOUCHED).step_by(CACHE_LINE);
        black_box(lines.fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    }

    /// Its place, in words.
    pub fn place(&self) -> String {
        if self.id == 0 {
            format!("inline bucket at byte {}", self.at)
        } else {
            format!("page {}", self.id)
        }
    }

    /// The offset in the page behind the array of elements: no key lies before it.
    pub fn elements_end(&self) -> usize {
        PAGE_HEADER + ELEMENT * self.count
    }

    /// Where its elements stand in the image.
    pub fn elements(&self) -> Range<usize> {
        self.at + PAGE_HEADER..self.at + self.elements_end()
    }

    /// The fault of one element.
    pub fn fault(&self, code: &'static str, index: usize, problem: impl Into<String>) -> Fault {
        Fault::new(code, format!("{}, element {index}", self.place()), problem)
    }

    /// The row at `index`. Its bytes must begin at or behind `floor`, which moves to their end: so no byte is read twice
    /// however the elements lie.
    pub fn row(&self, index: usize, floor: &mut usize) -> Result<Row<'a>, Fault> {
        let offset = PAGE_HEADER + ELEMENT * index;
        let words = self.words(offset);
        let Some([flags, position, key_size, value_size]) = words else {
            return Err(self.fault("ElementOutOfBounds", index, "it lies outside the page"));
        };
        if flags > BUCKET_ELEMENT {
            let problem = format!("its flags are {flags:#x}, which bbolt does not know");
            return Err(self.fault("ElementFlagsUnknown", index, problem));
        }
        let start = offset.saturating_add(position as usize);
        let middle = start.saturating_add(key_size as usize);
        let end = middle.saturating_add(value_size as usize);
        let (Some(key), Some(value)) = (self.bytes.get(start..middle), self.bytes.get(middle..end))
        else {
            return Err(self.fault(
                "ElementOutOfBounds",
                index,
                "its bytes lie outside the page",
            ));
        };
        self.check_key(index, key, start, *floor)?;
        *floor = end;
        Ok(Row {
            key,
            value,
            element: self.at + offset,
            data: self.at + start,
            is_bucket: flags == BUCKET_ELEMENT,
        })
    }

    /// The child at `index`; `floor` as for rows.
    pub fn child(&self, index: usize, floor: &mut usize) -> Result<Child<'a>, Fault> {
        let offset = PAGE_HEADER + ELEMENT * index;
        let words = self.words(offset);
        let page = u64_at(self.bytes, offset + 8);
        let (Some([position, key_size, _, _]), Some(page)) = (words, page) else {
            return Err(self.fault("ElementOutOfBounds", index, "it lies outside the page"));
        };
        let start = offset.saturating_add(position as usize);
        let end = start.saturating_add(key_size as usize);
        let Some(separator) = self.bytes.get(start..end) else {
            return Err(self.fault("ElementOutOfBounds", index, "its key lies outside the page"));
        };
        self.check_key(index, separator, start, *floor)?;
        *floor = end;
        Ok(Child { separator, page })
    }

    /// The key at `index`, for a binary search.
    pub fn key(&self, index: usize) -> Result<&'a [u8], Fault> {
        let mut floor = self.elements_end();
        if self.leaf {
            Ok(self.row(index, &mut floor)?.key)
        } else {
            Ok(self.child(index, &mut floor)?.separator)
        }
    }

    fn words(&self, offset: usize) -> Option<[u32; 4]> {
        let element: &[u8; ELEMENT] = self.bytes.get(offset..)?.first_chunk()?;
        let word = |at: usize| u32_at(element, at);
        Some([word(0)?, word(4)?, word(8)?, word(12)?])
    }

    fn check_key(&self, index: usize, key: &[u8], start: usize, floor: usize) -> Result<(), Fault> {
        if start < floor {
            let problem = "its bytes overlap those of another element";
            return Err(self.fault("ElementsOverlap", index, problem));
        }
        if key.is_empty() {
            return Err(self.fault("KeyEmpty", index, "its key is empty"));
        }
        if key.len() > MAX_KEY {
            let problem = format!(
                "its key is {} bytes long, bbolt allows {MAX_KEY}",
                key.len()
            );
            return Err(self.fault("KeyTooLong", index, problem));
        }
        Ok(())
    }
}

impl<'a> Row<'a> {
    /// The bucket that the value is.
    pub fn bucket(&self) -> Result<BucketRoot<'a>, Fault> {
        let value_at = self.data + self.key.len();
        let broken = |problem: &str| {
            let name = self.key.escape_ascii();
            Fault::new("BucketBroken", format!("bucket {name}"), problem)
        };
        let root = u64_at(self.value, 0).ok_or_else(|| broken("its header is cut off"))?;
        let inline = self
            .value
            .get(BUCKET_HEADER..)
            .ok_or_else(|| broken("its header is cut off"))?;
        if root != 0 {
            return if inline.is_empty() {
                Ok(BucketRoot::Page(root))
            } else {
                Err(broken("it has a root page and rows of its own"))
            };
        }
        let header =
            PageHeader::decode(inline).ok_or_else(|| broken("its inline page is cut off"))?;
        if header.flags != FLAG_LEAF || header.overflow != 0 || header.id != 0 {
            return Err(broken("its inline page has a wrong header"));
        }
        Node::new(inline, value_at + BUCKET_HEADER, 0, &header).map(BucketRoot::Inline)
    }
}

/// The row whose element stands at `element` in the image, as [`Row::element`] told; nothing when that is no row.
pub fn row_at(image: &[u8], element: usize) -> Option<(&[u8], &[u8])> {
    let key_size = u32_at(image, element.checked_add(8)?)? as usize;
    image
        .get(row_data(image, element)?)?
        .split_at_checked(key_size)
}

/// Where its key and value lie.
pub fn row_data(image: &[u8], element: usize) -> Option<Range<usize>> {
    let position = u32_at(image, element.checked_add(4)?)? as usize;
    let key_size = u32_at(image, element.checked_add(8)?)? as usize;
    let value_size = u32_at(image, element.checked_add(12)?)? as usize;
    let start = element.checked_add(position)?;
    let end = start.checked_add(key_size)?.checked_add(value_size)?;
    Some(start..end)
}
