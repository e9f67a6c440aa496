//! The text as a whole: its size, its characters, its TOML; then table by table.

use toml::de::{DeTable, DeValue, Error};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::{alerts, clients, most, rest, tiers};
use crate::alerts::Alerts;
use crate::grammar::key::hash_key;
use crate::model::Policy;
use crate::node::Node;
use crate::problem::{Fault, Log, Problem, quote};

/// A policy of 100,000 clients has about 20 MiB.
pub const MAX_POLICY_BYTES: usize = 64 << 20;

/// Parsing keeps some 50 bytes for each token; 100,000 clients have about 4 million.
const MAX_TOKENS: usize = 12_000_000;

/// The deepest key of a policy has 4 parts. The parser allows 80 parts in each of 80 nested braces,
/// and dropping that tree recurses through thousands of levels; beyond 80 it refuses without a place.
const MAX_KEY_PARTS: usize = 8;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Parses a policy, or says everything that is wrong with it, in the order of the text (at most the
/// first hundred problems, and how many more there are).
pub fn parse(text: &str) -> Result<Policy, Vec<Problem>> {
    // An editor's mark is no fault of the policy, and no part of its first line.
    let unmarked = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let log = Log::new(unmarked);
    let policy = read(unmarked, &log);
    let (problems, warnings) = log.finish();
    match policy {
        Some(policy) if problems.is_empty() => {
            Ok(Policy { version: version_of(text.as_bytes()), warnings, ..policy })
        }
        _ => Err(problems),
    }
}

/// [`parse`] for bytes as they come from a disk or a network.
pub fn parse_bytes(bytes: &[u8]) -> Result<Policy, Vec<Problem>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let log = Log::new(&valid);
            let byte = bytes[error.valid_up_to()];
            let fault =
                Fault::new(format!("byte 0x{byte:02x} is not valid UTF-8"), "save the policy as UTF-8");
            log.problem(valid.len(), || (String::new(), fault));
            Err(log.finish().0)
        }
    }
}

/// See [`Policy::version`].
pub fn version_of(text: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash_key(text);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn read(text: &str, log: &Log<'_>) -> Option<Policy> {
    let measured = check_size(text).and_then(|()| check_characters(text)).and_then(|()| check_tokens(text));
    if let Err((offset, fault)) = measured {
        log.problem(offset, || (String::new(), fault));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        note_syntax(text, log, error);
    }
    // What stands in a broken text is not judged: most of it would only echo the syntax error.
    if log.has_problems() {
        return None;
    }
    let document = DeValue::Table(document.into_inner());
    read_policy(&Node::root(log, &document), log)
}

type Misplaced = (usize, Fault);

fn check_size(text: &str) -> Result<(), Misplaced> {
    if text.len() <= MAX_POLICY_BYTES {
        return Ok(());
    }
    let message = format!("the policy has {} bytes, more than {MAX_POLICY_BYTES}", text.len());
    Err((0, Fault::new(message, "split it over several gateways, or shorten it")))
}

/// TOML forbids these anyway; this says which one it is. Text in UTF-16 shows up here too.
fn check_characters(text: &str) -> Result<(), Misplaced> {
    let control = |byte: u8| byte.is_ascii_control() && !b"\t\n\r".contains(&byte);
    match text.bytes().enumerate().find(|&(_, byte)| control(byte)) {
        None => Ok(()),
        Some((offset, byte)) => {
            let message = format!("control character U+{byte:04X}");
            Err((offset, Fault::new(message, "remove it; a policy is plain text in UTF-8")))
        }
    }
}

/// Looks at the tokens before anything is built from them: the parser bounds neither its memory nor,
/// closely enough, how deep its tree becomes.
fn check_tokens(text: &str) -> Result<(), Misplaced> {
    let mut dots = 0;
    for (count, token) in Source::new(text).lex().enumerate() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Atom | TokenKind::Whitespace => {}
            TokenKind::BasicString | TokenKind::LiteralString => {}
            _ => dots = 0,
        }
        let fault = if dots >= MAX_KEY_PARTS {
            Fault::new(format!("a key of more than {MAX_KEY_PARTS} parts"), "shorten it")
        } else if count >= MAX_TOKENS {
            Fault::new(format!("more than {MAX_TOKENS} words and signs"), "shorten the policy")
        } else {
            continue;
        };
        return Err((token.span().start(), fault));
    }
    Ok(())
}

/// A syntax error in our own form. Of the text it repeats only a key that stands twice: anything else
/// might be a secret in the wrong place.
fn note_syntax(text: &str, log: &Log<'_>, error: &Error) {
    let span = error.span().unwrap_or(0..0);
    let offset = span.start;
    let fault = || match error.message() {
        "duplicate key" => {
            let key = quote(text.get(span).unwrap_or_default());
            Fault::new(format!("{key} stands here a second time"), "keep one of the two")
        }
        message if message.starts_with("cannot recurse") => {
            Fault::new("brackets or braces are nested too deep", "a policy needs at most 3 levels")
        }
        message => Fault::new(format!("this is not valid TOML: {message}"), ""),
    };
    log.problem(offset, || (String::new(), fault()));
}

const KEYS: [&str; 7] = ["default_tier", "unknown", "tiers", "endpoints", "routes", "clients", "alerts"];

fn read_policy(root: &Node<'_>, log: &Log<'_>) -> Option<Policy> {
    let table = root.table(&KEYS)?;
    let (tiers, known) = tiers::read(&table);
    let default_node = table.get("default_tier");
    let default_tier = default_node.as_ref().map(|node| known.find(node));
    let routes = table.get("routes").map(|node| rest::read_routes(&node)).unwrap_or_default();
    let endpoints = table.get("endpoints").map(|node| rest::read_rules(&node)).unwrap_or_default();
    let context = clients::Context::new(&known, &tiers, default_tier.clone());
    let clients = table.get("clients").map(|node| context.read(&node)).unwrap_or_default();
    let (grants, of_clients) = context.apart();
    if !log.has_problems() {
        rest::warn_of_unknown_routes(&table, &routes);
    }
    let policy = Policy {
        // Version and warnings are known when the reading is over.
        version: 0,
        unknown: table.get("unknown").map(|n| rest::read_unknown(&n, &known)).unwrap_or_default(),
        alerts: Alerts {
            clients: of_clients,
            ..table.get("alerts").map(|n| alerts::read_alerts(&n)).unwrap_or_default()
        },
        default_tier: default_tier.flatten(),
        tiers,
        endpoints,
        routes,
        clients,
        grants,
        warnings: Vec::new(),
    };
    if !log.has_problems() {
        most::check(&policy, &table);
    }
    Some(policy)
}
