//! YAML 1.2 as js-yaml reads it, which is what PM2 uses: the core schema (`true` and `false` are the only booleans, and
//! `yes` is a text), anchors, merge keys. saphyr's parser delivers events and does not recurse; this puts them together
//! and bounds what aliases may grow to.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as Mark, Tag};

use super::json;
use crate::config::tree::{Broken, DEPTH_MAX, Entry, Node, Number, Span, Table, Tree};

/// Values that aliases may repeat, all together: ten lines can stand for billions ("billion laughs").
const REPEATED_MAX: usize = 20_000;

/// The key that puts the entries of another table under those that are there.
const MERGE: &str = "<<";

pub(super) fn read(text: &str) -> Result<Node, Broken> {
    let text_start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let body = text.get(text_start..).unwrap_or_default();
    let mut reader =
        Reader { places: Places::new(body, text_start), anchors: BTreeMap::new(), repeated: 0, open: Vec::new() };
    let mut document = None;
    let mut parser = Parser::new_from_str(body);
    while let Some(event) = parser.next_event() {
        let (event, mark) = event.map_err(|error| (reader.places.of(error.marker()), worded(error.info())))?;
        if let Event::DocumentStart(_) = event
            && document.is_some()
        {
            return Err((reader.places.of(&mark.start), "a second document; a file of apps has one".into()));
        }
        if let Some(node) = reader.take(event, mark)? {
            document = Some(node);
        }
    }
    document.ok_or((0, "there is nothing in it; a file of apps has apps: and a list".to_owned()))
}

/// The parser's words, in the form of pm3's.
fn worded(info: &str) -> String {
    let mut letters = info.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

struct Reader<'t> {
    places: Places<'t>,
    anchors: BTreeMap<usize, Node>,
    /// Values that came from aliases so far.
    repeated: usize,
    /// The collections that are being read, the innermost last.
    open: Vec<Open>,
}

/// A collection without its end.
struct Open {
    start: usize,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Table { entries: Table, names: BTreeSet<String>, merged: Vec<Node>, key: Option<(String, Span)> },
}

impl Reader<'_> {
    /// Takes an event; the document, once it is whole.
    fn take(&mut self, event: Event<'_>, mark: Mark) -> Result<Option<Node>, Broken> {
        let span = self.places.span(&mark);
        let (anchor, node) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                return Ok(None);
            }
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_deref(), &["seq"], span.start)?;
                return self.enter(span.start, anchor, Kind::List(Vec::new())).map(|()| None);
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_deref(), &["map"], span.start)?;
                let kind = Kind::Table { entries: Table::new(), names: BTreeSet::new(), merged: Vec::new(), key: None };
                return self.enter(span.start, anchor, kind).map(|()| None);
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(span.end)?,
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let mut node = known.cloned().ok_or((span.start, "an alias to itself".to_owned()))?;
                self.repeated += weight(&node);
                if self.repeated > REPEATED_MAX {
                    return Err((span.start, format!("aliases repeat more than {REPEATED_MAX} values")));
                }
                if self.open.len() + depth(&node) > DEPTH_MAX {
                    return Err((span.start, format!("nested deeper than {DEPTH_MAX}")));
                }
                // A mistake in it is told where it is used.
                node.span = span;
                (0, node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tree = scalar(&text, style, tag.as_deref(), span.start)?;
                (anchor, Node { tree, span })
            }
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    fn enter(&mut self, start: usize, anchor: usize, kind: Kind) -> Result<(), Broken> {
        if self.open.len() >= DEPTH_MAX {
            return Err((start, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.open.push(Open { start, anchor, kind });
        Ok(())
    }

    fn leave(&mut self, end: usize) -> Result<(usize, Node), Broken> {
        let Open { start, anchor, kind } = self.open.pop().ok_or((end, "nothing to close".to_owned()))?;
        let tree = match kind {
            Kind::List(list) => Tree::List(list),
            Kind::Table { mut entries, mut names, merged, .. } => {
                // What the table says itself comes first, then what was merged earlier.
                for entry in merged
                    .into_iter()
                    .flat_map(|node| if let Tree::Table(table) = node.tree { table } else { Vec::new() })
                {
                    if names.insert(entry.name.clone()) {
                        entries.push(entry);
                    }
                }
                Tree::Table(entries)
            }
        };
        Ok((anchor, Node { tree, span: start..end.max(start) }))
    }

    /// Puts a value where it belongs: into the open collection, or it is the document.
    fn put(&mut self, node: Node) -> Result<Option<Node>, Broken> {
        let Some(Open { kind, .. }) = self.open.last_mut() else { return Ok(Some(node)) };
        match kind {
            Kind::List(list) => list.push(node),
            Kind::Table { key: key @ None, .. } => {
                let name = match node.tree {
                    Tree::Text(name) => name,
                    Tree::Number(number) => number.text,
                    Tree::Flag(flag) => flag.to_string(),
                    Tree::Nothing | Tree::List(_) | Tree::Table(_) | Tree::Odd => {
                        return Err((node.span.start, "expected a name for a key".into()));
                    }
                };
                *key = Some((name, node.span));
            }
            Kind::Table { entries, names, merged, key: key @ Some(_) } => {
                let Some((name, at)) = key.take() else { return Ok(None) };
                if name == MERGE {
                    merged.extend(mergeable(node)?);
                } else if names.insert(name.clone()) {
                    entries.push(Entry { name, at, node });
                } else {
                    return Err((at.start, format!("duplicate key {name}")));
                }
            }
        }
        Ok(None)
    }
}

/// The tables that `<<` names: one, or a list of them.
fn mergeable(node: Node) -> Result<Vec<Node>, Broken> {
    let start = node.span.start;
    let tables = match node.tree {
        Tree::List(list) => list,
        Tree::Table(_) => vec![node],
        Tree::Nothing | Tree::Flag(_) | Tree::Number(_) | Tree::Text(_) | Tree::Odd => Vec::new(),
    };
    let good = !tables.is_empty() && tables.iter().all(|table| table.table().is_some());
    if good { Ok(tables) } else { Err((start, "expected a table, or a list of tables, to merge".into())) }
}

/// What a scalar is, by the core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: usize) -> Result<Tree, Broken> {
    let tag = known_tag(tag, &["str", "int", "float", "bool", "null"], at)?;
    if tag == Some("str") || (tag.is_none() && style != ScalarStyle::Plain) {
        return Ok(Tree::Text(text.to_owned()));
    }
    let tree = match text {
        "" | "~" | "null" | "Null" | "NULL" => Tree::Nothing,
        "true" | "True" | "TRUE" => Tree::Flag(true),
        "false" | "False" | "FALSE" => Tree::Flag(false),
        _ => number(text).map_or_else(|| Tree::Text(text.to_owned()), Tree::Number),
    };
    let fits = match (tag, &tree) {
        (Some("int" | "float"), tree) => matches!(tree, Tree::Number(_)),
        (Some("bool"), tree) => matches!(tree, Tree::Flag(_)),
        (Some("null"), tree) => matches!(tree, Tree::Nothing),
        (Some(_) | None, _) => true,
    };
    if fits { Ok(tree) } else { Err((at, format!("this is no {}", tag.unwrap_or_default()))) }
}

/// `1_000` and times such as 12:30 are texts in YAML 1.2.
fn number(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = |letter: char| letter.is_ascii_hexdigit() || "xo.+-".contains(letter);
    let starts = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    (starts && digits.chars().all(plain)).then(|| json::number(sign, digits)).flatten()
}

/// The name of a tag of the core schema that fits here; None: no tag, or the `!` that means a text.
fn known_tag<'t>(tag: Option<&'t Tag>, known: &[&str], at: usize) -> Result<Option<&'t str>, Broken> {
    match tag {
        None => Ok(None),
        Some(tag) if tag.is_yaml_core_schema() && known.contains(&&*tag.suffix) => Ok(Some(&tag.suffix)),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" && known.contains(&"str") => Ok(Some("str")),
        Some(tag) => {
            let core = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
            Err((at, format!("a tag that means nothing here: {core}")))
        }
    }
}

fn weight(node: &Node) -> usize {
    match &node.tree {
        Tree::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Tree::Table(table) => 1 + table.iter().map(|entry| weight(&entry.node)).sum::<usize>(),
        Tree::Nothing | Tree::Flag(_) | Tree::Number(_) | Tree::Text(_) | Tree::Odd => 1,
    }
}

fn depth(node: &Node) -> usize {
    match &node.tree {
        Tree::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Tree::Table(table) => 1 + table.iter().map(|entry| depth(&entry.node)).max().unwrap_or(0),
        Tree::Nothing | Tree::Flag(_) | Tree::Number(_) | Tree::Text(_) | Tree::Odd => 0,
    }
}

/// From the parser's places, which count letters, to bytes.
struct Places<'t> {
    text: &'t str,
    /// Bytes in front of the text.
    offset: usize,
    /// A letter and its byte: markers mostly go forwards, so the next one is near.
    last: (usize, usize),
}

impl Places<'_> {
    fn new(text: &str, offset: usize) -> Places<'_> {
        Places { text, offset, last: (0, 0) }
    }

    fn of(&mut self, marker: &Marker) -> usize {
        let (letter, byte) = self.last;
        let (from_letter, from_byte) = if marker.index() >= letter { (letter, byte) } else { (0, 0) };
        let rest = self.text.get(from_byte..).unwrap_or_default();
        let further = rest.char_indices().nth(marker.index() - from_letter).map_or(rest.len(), |(at, _)| at);
        self.last = (marker.index(), from_byte + further);
        self.offset + from_byte + further
    }

    fn span(&mut self, mark: &Mark) -> Span {
        let start = self.of(&mark.start);
        // Ends are not kept: the next start is mostly before them, and would begin from the front again.
        let last = self.last;
        let end = self.of(&mark.end).max(start);
        self.last = last;
        // A plain scalar's end may lie beyond the blanks and line breaks that follow it.
        let text = self.text.get(start - self.offset..end - self.offset).unwrap_or_default();
        start..start + text.trim_end().len()
    }
}
