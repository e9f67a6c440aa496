//! The TOML tree with its places: each node knows its path, and every complaint goes to one log.

use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Fault, Log, quote};
use crate::suggest::did_you_mean;

/// A value, the steps that lead to it (through its parents), and where complaints go.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    log: &'a Log<'a>,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
    /// Byte offset of the value, or of the header of a table.
    offset: usize,
    value: &'a DeValue<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

/// A node that is a table.
pub(crate) struct Table<'a> {
    node: &'a Node<'a>,
    entries: &'a DeTable<'a>,
}

impl<'a> Node<'a> {
    pub fn root(log: &'a Log<'a>, value: &'a DeValue<'a>) -> Node<'a> {
        Node { log, parent: None, step: Step::Root, offset: 0, value }
    }

    /// Notes a problem here.
    pub fn problem(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Fault::new(message, remedy));
    }

    /// Notes a problem here.
    pub fn fault(&self, fault: Fault) {
        self.log.problem(self.offset, || (self.path(), fault));
    }

    /// Notes something that is allowed but probably not meant.
    pub fn warning(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.log.warning(self.offset, || (self.path(), Fault::new(message, remedy)));
    }

    /// The value, or `None` after noting why there is none.
    pub fn checked<T>(&self, parsed: Result<T, Fault>) -> Option<T> {
        parsed.map_err(|fault| self.fault(fault)).ok()
    }

    /// The value if it is a string.
    pub fn text(&self) -> Option<&'a str> {
        self.typed("text in quotes", |value| value.as_str())
    }

    /// A string in one of the small grammars.
    pub fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        self.text().and_then(|text| self.checked(parse(text)))
    }

    /// The value if it is `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        self.typed("true or false", |value| value.as_bool())
    }

    /// The value if it is a whole number from 0.
    pub fn whole(&self) -> Option<u64> {
        let integer = self.typed("a whole number", |value| value.as_integer())?;
        let whole = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if whole.is_none() {
            self.problem(format!("{integer} is negative or too large"), "write a number from 0");
        }
        whole
    }

    /// The value if it is a number, whole or not.
    pub fn number(&self) -> Option<f64> {
        self.typed("a number", |value| match value {
            DeValue::Integer(_) => Some(self.whole()? as f64),
            DeValue::Float(float) => float.as_str().parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        })
    }

    /// Seconds since 1970 if the value is a date and time with its offset from UTC.
    pub fn instant(&self) -> Option<i64> {
        self.typed("a date, a time and an offset, such as 2026-12-01T00:00:00Z", |value| {
            let text = value.as_datetime().filter(|datetime| datetime.offset.is_some())?;
            Some(text.to_string().parse::<jiff::Timestamp>().ok()?.as_second())
        })
    }

    /// The items if the value is a list.
    pub fn list(&'a self) -> Option<impl ExactSizeIterator<Item = Node<'a>>> {
        let items = self.typed("a list in brackets", |value| value.as_array())?;
        Some(items.iter().enumerate().map(|(index, item)| self.child(Step::Index(index), item)))
    }

    /// The table, after complaining about every key that is none of `known`.
    pub fn table(&'a self, known: &[&str]) -> Option<Table<'a>> {
        let table = self.any_table()?;
        for (key, value) in table.entries {
            if !known.contains(&&**key.get_ref()) {
                let step = Step::Key(key.get_ref());
                let node = Node { offset: key.span().start, ..self.child(step, value) };
                node.unknown_key(key.get_ref(), known);
            }
        }
        Some(table)
    }

    fn unknown_key(&self, key: &str, known: &[&str]) {
        self.log.problem(self.offset, || {
            let known = known.iter().copied();
            let remedy = did_you_mean(key, known.clone(), || {
                format!("known keys here: {}", known.collect::<Vec<_>>().join(", "))
            });
            (self.path(), Fault::new(format!("{} is not a known key", quote(key)), remedy))
        });
    }

    /// The table if the value is one, whatever its keys.
    pub fn any_table(&'a self) -> Option<Table<'a>> {
        let entries = self.typed("a table", |value| value.as_table())?;
        Some(Table { node: self, entries })
    }

    /// Whether the value is a table.
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether the value is a list with nothing in it.
    pub fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|items| items.is_empty())
    }

    /// Whether the value is `true` or `false`.
    pub fn is_flag(&self) -> bool {
        self.value.is_bool()
    }

    fn typed<T>(&self, wanted: &str, get: impl FnOnce(&'a DeValue<'a>) -> Option<T>) -> Option<T> {
        let found = get(self.value);
        if found.is_none() {
            let is = kind(self.value);
            self.problem(format!("this is {is}"), format!("write {wanted}"));
        }
        found
    }

    fn child(&'a self, step: Step<'a>, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        let (offset, value) = (value.span().start, value.get_ref());
        Node { log: self.log, parent: Some(self), step, offset, value }
    }

    fn path(&self) -> String {
        let mut path = self.parent.map(Node::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            // Writing to a String cannot fail.
            Step::Index(index) => drop(write!(path, "[{index}]")),
            Step::Key(key) => {
                let dot = if path.is_empty() { "" } else { "." };
                let shown = if is_bare(key) { key.to_owned() } else { quote(key) };
                path.push_str(dot);
                path.push_str(&shown);
            }
        }
        path
    }
}

impl<'a> Table<'a> {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let (key, value) = self.entries.get_key_value(key)?;
        Some(self.node.child(Step::Key(key.get_ref()), value))
    }

    /// Keys and values in the order of the text.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&'a str, Node<'a>)> {
        let node = self.node;
        self.entries.iter().map(|(key, value)| {
            let key: &str = key.get_ref();
            (key, node.child(Step::Key(key), value))
        })
    }

    /// Notes a problem of the table as a whole.
    pub fn problem(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.node.problem(message, remedy);
    }

    /// Notes something about the table as a whole that is probably not meant.
    pub fn warning(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.node.warning(message, remedy);
    }
}

/// Whether TOML lets this key stand without quotes.
fn is_bare(key: &str) -> bool {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !key.is_empty() && key.len() <= 60 && key.bytes().all(bare)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
