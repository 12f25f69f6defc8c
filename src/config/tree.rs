//! What a file holds, whatever language it is written in: values with their places. Every reader of `forms` ends here,
//! so that one table of keys checks them all and each mistake has its place.

use std::ops::Range;

/// Bytes of the text that a value was read from.
pub(super) type Span = Range<usize>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// `null`: as if the key were not there.
    Nothing,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Table(Table),
    /// What no key can be: a date, a function.
    Odd,
}

#[derive(Clone, Debug)]
pub(super) struct Number {
    /// Decimal where it is a whole number, however it is written: what an app would read.
    pub(super) text: String,
    /// It was written as `0o22`, as permission bits are.
    pub(super) octal: bool,
}

/// Entries in their order; no two of one name.
pub(super) type Table = Vec<Entry>;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) at: Span,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        if let Tree::Text(text) = &self.tree { Some(text) } else { None }
    }

    pub(super) fn list(&self) -> Option<&[Node]> {
        if let Tree::List(list) = &self.tree { Some(list) } else { None }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        if let Tree::Table(table) = &self.tree { Some(table) } else { None }
    }

    /// The way to what stands at an offset: `apps[0].env.PORT`. Empty: the whole.
    pub(super) fn path(&self, offset: usize) -> String {
        let mut path = String::new();
        let mut node = self;
        loop {
            // Each child begins where it begins, and what stands before the first belongs to the parent.
            let next = match &node.tree {
                Tree::List(list) => {
                    list.iter().enumerate().find(|(_, item)| item.span.contains(&offset)).map(|(at, item)| {
                        path.push_str(&format!("[{at}]"));
                        item
                    })
                }
                Tree::Table(table) => {
                    let here = |entry: &&Entry| entry.at.contains(&offset) || entry.node.span.contains(&offset);
                    table.iter().find(here).map(|entry| {
                        path.push_str(if path.is_empty() { "" } else { "." });
                        path.push_str(&entry.name);
                        &entry.node
                    })
                }
                Tree::Nothing | Tree::Flag(_) | Tree::Number(_) | Tree::Text(_) | Tree::Odd => None,
            };
            match next {
                Some(below) => node = below,
                None => return path,
            }
        }
    }
}

impl Number {
    /// A whole number in some base.
    pub(super) fn whole(digits: &str, radix: u32) -> Option<Number> {
        let text = i64::from_str_radix(digits, radix).ok()?.to_string();
        Some(Number { text, octal: radix == 8 })
    }
}

/// Nesting of lists and tables beyond this is no configuration; it bounds the stack of every reader.
pub(super) const DEPTH_MAX: usize = 64;

/// A text that is not of its language: where, and why.
pub(super) type Broken = (usize, String);
