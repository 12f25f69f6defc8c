//! TOML, by toml's own tree, which has a span for everything.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::tree::{Broken, Entry, Node, Number, Table, Tree};

pub(super) fn read(text: &str) -> Result<Node, Vec<Broken>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = tree.span();
        return Ok(Node { tree: Tree::Table(table(tree.into_inner())), span });
    }
    // What could be read of a broken file would only add mistakes that are none.
    let broken = errors.iter().map(|error| {
        let span = error.span().unwrap_or_default();
        let what = match error.message() {
            // Anything else might show a secret that lacks its quotes.
            "duplicate key" => format!("duplicate key {}", text.get(span.clone()).unwrap_or_default()),
            other => other.to_owned(),
        };
        (span.start, what)
    });
    Err(broken.collect())
}

fn table(table: DeTable<'_>) -> Table {
    let entry = |(name, value): (Spanned<_>, _)| Entry {
        at: name.span(),
        name: std::borrow::Cow::into_owned(name.into_inner()),
        node: node(value),
    };
    table.into_iter().map(entry).collect()
}

/// toml bounds the depth itself.
fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let tree = match value.into_inner() {
        DeValue::String(text) => Tree::Text(text.into_owned()),
        DeValue::Boolean(flag) => Tree::Flag(flag),
        DeValue::Integer(number) => Number::whole(number.as_str(), number.radix()).map_or(Tree::Odd, Tree::Number),
        DeValue::Float(number) => Tree::Number(Number { text: number.as_str().to_owned(), octal: false }),
        DeValue::Datetime(_) => Tree::Odd,
        DeValue::Array(items) => Tree::List(items.into_iter().map(node).collect()),
        DeValue::Table(entries) => Tree::Table(table(entries)),
    };
    Node { tree, span }
}
