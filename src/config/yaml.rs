//! YAML text as a tree in which every node knows its place.
//!
//! The parser's events become nodes; nothing is interpreted here, so `yes`, `1.0` and `2026-01-01` stay the text that
//! was written. Duplicate keys are kept for the reader, which knows their path. Anchors and aliases work, within
//! `NODES_MAX`; tags and several documents are refused, because they have no meaning in this file.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle};

/// The most nodes of one file, aliases expanded: a hundred thousand credentials with ten keys each, and an end to
/// "billion laughs".
const NODES_MAX: usize = 2_000_000;

/// The deepest nesting; the configuration itself goes down nine levels. Bounds the recursion over the tree.
const DEPTH_MAX: usize = 32;

/// A place in the file: line and column, both from 1. Line 0 is the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing was written, or `null`, or `~`.
    Null,
    /// Text between quotes or in a block, which is text whatever it looks like.
    Text(String),
    /// Text without quotes.
    Plain(String),
    List(Vec<Node>),
    /// Entries in the order of the file, duplicates included.
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) node: Node,
}

/// Why the text is not a tree. The message holds none of the file's text.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Parses one document. `None` is a file that holds nothing but comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut tree = Tree::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let place = place_of(*error.marker());
            SyntaxError {
                place,
                message: format!("not YAML: {}", error.kind()),
                hint: hint_of(error.kind()),
            }
        })?;
        tree.take(event, place_of(span.start))?;
    }
    Ok(tree.root)
}

fn place_of(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn hint_of(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => "YAML indents with spaces only; replace the tab",
        ErrorKind::UnclosedQuotedScalar => "the quote that opens here is never closed",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::RecursionLimitExceeded => "a bracket is opened and never closed",
        ErrorKind::UnknownAnchor => {
            "define `&name` before using `*name`, and put a `*` into quotes"
        }
        ErrorKind::SimpleKeyExpected => {
            "every line of a map is `key: value`, with a space after the colon"
        }
        _ => "look at the indentation and the colons of this line and of the one above",
    }
}

/// A collection that is still open, with the anchor it defines (0 is none).
struct Open {
    place: Place,
    anchor: usize,
    /// Nodes inside, itself included: the cost of an alias to it.
    started_at_count: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    /// The entries so far, and the key that waits for its value.
    Map(Vec<Entry>, Option<(Place, String)>),
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    count: usize,
    /// Anchored nodes and how many nodes each holds.
    anchors: HashMap<usize, (Node, usize)>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), SyntaxError> {
        let refuse =
            |message: &str, hint| Err(SyntaxError { place, message: message.to_owned(), hint });
        match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                refuse("a tag (`!…`) means nothing here", "remove the tag, or quote the text")
            }
            Event::DocumentStart(..) => {
                self.documents += 1;
                if 1 < self.documents {
                    return refuse(
                        "a second document begins here",
                        "one file holds one document; remove `---`",
                    );
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, None) => {
                let value = match (style, text.as_ref()) {
                    (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
                    (ScalarStyle::Plain, _) => Value::Plain(text.into_owned()),
                    _ => Value::Text(text.into_owned()),
                };
                self.count_up(1, place)?;
                self.add(Node { place, value }, anchor, 1)
            }
            Event::SequenceStart(_, anchor, None) => {
                self.begin(place, anchor, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, None) => {
                self.begin(place, anchor, OpenKind::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some((node, size)) => {
                    self.count_up(size, place)?;
                    self.add(Node { place, value: node.value }, 0, size)
                }
                None => {
                    refuse("the alias stands inside what it names", "move the anchor elsewhere")
                }
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), SyntaxError> {
        if self.open.len() == DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(SyntaxError {
                place,
                message,
                hint: "look for brackets that are never closed",
            });
        }
        let started_at_count = self.count;
        self.count_up(1, place)?;
        self.open.push(Open { place, anchor, started_at_count, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(nodes) => Value::List(nodes),
            OpenKind::Map(entries, _) => Value::Map(entries),
        };
        let size = self.count - open.started_at_count;
        self.add(Node { place: open.place, value }, open.anchor, size)
    }

    /// Puts a finished node where it belongs: into the open collection, or at the root.
    fn add(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), SyntaxError> {
        if 0 < anchor {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = match node.value {
                Value::Null => None,
                _ => Some(node),
            };
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::List(nodes) => nodes.push(node),
            OpenKind::Map(entries, waiting) => match (waiting.take(), node.value) {
                (Some((place, key)), value) => {
                    entries.push(Entry { place, key, node: Node { place: node.place, value } });
                }
                (None, Value::Plain(key) | Value::Text(key)) => *waiting = Some((node.place, key)),
                (None, Value::Null) => *waiting = Some((node.place, "null".to_owned())),
                (None, Value::List(_) | Value::Map(_)) => {
                    return Err(SyntaxError {
                        place: node.place,
                        message: "a key is a list or a map".to_owned(),
                        hint: "keys are plain words; quote text that begins with `{` or `[`",
                    });
                }
            },
        }
        Ok(())
    }

    fn count_up(&mut self, size: usize, place: Place) -> Result<(), SyntaxError> {
        self.count = self.count.saturating_add(size);
        if self.count <= NODES_MAX {
            return Ok(());
        }
        let message = format!("more than {NODES_MAX} values");
        Err(SyntaxError { place, message, hint: "aliases (`*name`) multiply what they name" })
    }
}
