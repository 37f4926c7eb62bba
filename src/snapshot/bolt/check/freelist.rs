//! Which pages are in use, and whether the list of free pages agrees.

use super::super::page::{COUNT_ELSEWHERE, FLAG_FREELIST, PAGE_HEADER, u64_at};
use super::super::read::Database;
use crate::snapshot::findings::Findings;

/// The list of free pages against the pages that were seen in use.
pub(super) fn check_freelist(
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
pub(super) struct PageSet {
    bits: Vec<u64>,
    pages: usize,
}

impl PageSet {
    pub(super) fn new(pages: usize) -> Self {
        Self {
            bits: vec![0; pages.div_ceil(64)],
            pages,
        }
    }

    /// Puts a run of pages in; false when one of them was in already.
    pub(super) fn take(&mut self, first: u64, pages: u64) -> bool {
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

    /// Puts another set's pages in; false when one of them was in already.
    pub(super) fn absorb(&mut self, other: &PageSet) -> bool {
        let mut fresh = true;
        for (word, more) in self.bits.iter_mut().zip(&other.bits) {
            fresh &= *word & more == 0;
            *word |= more;
        }
        fresh
    }
}
