//! What is wrong with a policy: where, what, and what to do about it.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;

use serde::Serialize;

/// How many problems are listed one by one: nobody reads more, and a hostile text could make millions.
const LISTED: usize = 100;

/// How many characters of somebody's text a message repeats.
const QUOTED_CHARS: usize = 60;

/// One thing that is wrong with a policy, or that looks wrong (a warning).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The place in the policy, such as `tiers.basic.limits[1]`; empty where the text is no TOML.
    pub path: String,
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// `12:5: tiers.basic.limits[1]: "reqests" is not a unit; did you mean "requests"?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// A problem whose place is not known yet: what a grammar says about a piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl Fault {
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Somebody's text as a message shows it: on one line, in quotes, not endless.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Collects problems and warnings while a policy is read. It is shared by all nodes of the tree, so
/// it changes behind a shared reference.
pub(crate) struct Log<'t> {
    text: &'t str,
    line_starts: OnceCell<Vec<usize>>,
    problems: List,
    warnings: List,
}

impl<'t> Log<'t> {
    pub fn new(text: &'t str) -> Log<'t> {
        let (problems, warnings) = (List::default(), List::default());
        Log { text, line_starts: OnceCell::new(), problems, warnings }
    }

    /// Notes a problem at a byte of the text: the path, and what is wrong.
    pub fn problem(&self, offset: usize, found: impl FnOnce() -> (String, Fault)) {
        self.problems.add(|| self.at(offset, found()));
    }

    /// Notes something that is allowed but probably not meant.
    pub fn warning(&self, offset: usize, found: impl FnOnce() -> (String, Fault)) {
        self.warnings.add(|| self.at(offset, found()));
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.listed.borrow().is_empty()
    }

    /// All problems and all warnings, each in the order of the text.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.finish("problems"), self.warnings.finish("warnings"))
    }

    fn at(&self, offset: usize, (path, fault): (String, Fault)) -> Problem {
        let (line, column) = self.place(offset);
        Problem { line, column, path, message: fault.message, remedy: fault.remedy }
    }

    /// Line and column of a byte, both from 1. The line starts are found once, on the first problem.
    fn place(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| line_starts(self.text));
        let line = starts.partition_point(|&start| start <= offset).max(1);
        let from = starts[line - 1];
        let before = &self.text.as_bytes()[from..offset.clamp(from, self.text.len())];
        // Bytes that go on a character (10xxxxxx) have no column of their own.
        let column = before.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() + 1;
        (line, column)
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
    std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
}

/// Problems up to [`LISTED`], and how many more there were.
#[derive(Default)]
struct List {
    listed: RefCell<Vec<Problem>>,
    more: Cell<usize>,
}

impl List {
    /// The problem is made only if it will be listed: text and path cost time.
    fn add(&self, problem: impl FnOnce() -> Problem) {
        if self.listed.borrow().len() < LISTED {
            let problem = problem();
            self.listed.borrow_mut().push(problem);
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    fn finish(self, what: &str) -> Vec<Problem> {
        let mut listed = self.listed.into_inner();
        listed.sort_by_key(|problem| (problem.line, problem.column));
        if let (1.., Some(last)) = (self.more.get(), listed.last().cloned()) {
            let message = format!("{} more {what} are not listed", self.more.get());
            let remedy = "look at those above first, then check again".to_owned();
            listed.push(Problem { path: String::new(), message, remedy, ..last });
        }
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let log = Log::new("a\n\u{e9}\u{1F600}x\r\nlast");
        assert_eq!(log.place(0), (1, 1));
        assert_eq!(log.place(1), (1, 2), "the line end belongs to its line");
        assert_eq!(log.place(2), (2, 1));
        assert_eq!(log.place(8), (2, 3), "two wide characters before it");
        assert_eq!(log.place(11), (3, 1));
        assert_eq!(log.place(99), (3, 5), "a place after the end is the end");
    }

    #[test]
    fn the_first_hundred_are_listed_in_order_and_the_rest_counted() {
        let text = "\n".repeat(300);
        let log = Log::new(&text);
        for offset in (0..250).rev() {
            log.problem(offset, || (String::new(), Fault::new("bad", "")));
        }
        let (problems, warnings) = log.finish();
        assert!(warnings.is_empty());
        assert_eq!(problems.len(), 101);
        assert!(problems[..100].is_sorted_by_key(|problem| problem.line));
        assert_eq!(problems[100].message, "150 more problems are not listed");
    }

    #[test]
    fn a_quotation_is_one_short_line() {
        assert_eq!(quote("a\r\nb\"c"), r#""a\r\nb\"c""#);
        assert_eq!(quote(&"\u{e9}".repeat(1000)).chars().count(), 63);
    }

    #[test]
    fn a_problem_is_one_sentence() {
        let mut problem = Problem {
            line: 12,
            column: 5,
            path: "clients.acme.tier".to_owned(),
            message: "no tier is called \"gold\"".to_owned(),
            remedy: String::new(),
        };
        assert_eq!(problem.to_string(), r#"12:5: clients.acme.tier: no tier is called "gold""#);
        problem.remedy = "add [tiers.gold]".to_owned();
        assert!(problem.to_string().ends_with("; add [tiers.gold]"));
    }
}
