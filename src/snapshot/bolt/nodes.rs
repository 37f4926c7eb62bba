//! All pages of one bucket's tree in the order of their keys, for who needs pages and not rows.

use super::Fault;
use super::node::Node;
use super::read::{Bucket, Database};

/// The nodes of a tree and the pages that each takes, a branch before what lies below it; ends after the first fault.
pub struct Nodes<'a> {
    database: Database<'a>,
    /// A bucket's only node, when that lies in its parent's page.
    inline: Option<Node<'a>>,
    /// Pages that are to be entered, the next one last.
    ahead: Vec<u64>,
    /// Pages that the image has beyond those that were entered: a tree has no more.
    left: u64,
}

impl<'a> Bucket<'a> {
    /// The nodes of its tree.
    pub fn nodes(&self) -> Nodes<'a> {
        Nodes {
            database: *self.database(),
            inline: self.inline(),
            ahead: self.root_page().into_iter().collect(),
            left: self.database().meta().high_water,
        }
    }
}

impl<'a> Nodes<'a> {
    fn enter(&mut self, page: u64) -> Result<(Node<'a>, u64), Fault> {
        let (node, pages) = self.database.node(page)?;
        let left = self.left.checked_sub(pages);
        let children = if node.is_leaf() { 0 } else { node.count() };
        let ahead = (self.ahead.len() + children) as u64;
        self.left = left.filter(|left| ahead <= *left).ok_or_else(|| {
            let problem = "pages belong to more than one branch";
            Fault::new("PageShared", node.place(), problem)
        })?;
        let (mut floor, before) = (node.elements_end(), self.ahead.len());
        for index in 0..children {
            self.ahead.push(node.child(index, &mut floor)?.page);
        }
        if let Some(children) = self.ahead.get_mut(before..) {
            children.reverse();
        }
        Ok((node, pages))
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Result<(Node<'a>, u64), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(node) = self.inline.take() {
            return Some(Ok((node, 0)));
        }
        let page = self.ahead.pop()?;
        let entered = self.enter(page);
        if entered.is_err() {
            self.ahead.clear();
        }
        Some(entered)
    }
}
