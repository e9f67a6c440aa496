//! `POST /orders`: a method and an endpoint or a path; `*` stands for any.

use std::fmt;

use crate::grammar::name::check_name;
use crate::problem::{Fault, quote};
use crate::suggest;

/// The methods that nginx knows by name. Others are allowed, unless they look like a slip in one of
/// these: a rule for `PSOT` would guard nothing.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "MKCOL",
    "COPY",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
];

/// The two halves of a pattern; `None` stands for any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub method: Option<Box<str>>,
    pub target: Option<Box<str>>,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_any = |half: &Option<Box<str>>| half.as_deref().unwrap_or("*").to_owned();
        write!(f, "{} {}", or_any(&self.method), or_any(&self.target))
    }
}

/// Parses `METHOD target`. The target is everything after the first space, spaces within included:
/// nginx names a location `~ ^/v[12]/` that way.
pub fn parse(text: &str) -> Result<Pattern, Fault> {
    check_name(text)?;
    let text = text.trim();
    let Some((method, target)) = text.split_once(' ') else {
        let message = format!("{} has no method, or nothing after it", quote(text));
        return Err(Fault::new(message, "write it like \"POST /orders\" or \"* /orders\""));
    };
    let any_or = |half: &str| (half != "*").then(|| half.into());
    Ok(Pattern { method: any_or(check_method(method)?), target: any_or(target.trim_start()) })
}

fn check_method(method: &str) -> Result<&str, Fault> {
    if method == "*" || METHODS.contains(&method) {
        return Ok(method);
    }
    let upper = method.to_uppercase();
    let plain = upper.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let meant = METHODS.into_iter().find(|known| *known == upper || is_one_slip(known, &upper));
    match meant {
        None if plain && upper == method => Ok(method),
        meant => Err(Fault::new(
            format!("{} is not a method", quote(method)),
            match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "write it in capital letters, or * for any".to_owned(),
            },
        )),
    }
}

fn is_one_slip(known: &str, word: &str) -> bool {
    let chars = |word: &str| word.chars().collect::<Vec<_>>();
    suggest::distance(&chars(known), &chars(word)) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_a_method_and_a_target() {
        let post = parse("POST   /orders").unwrap();
        assert_eq!(post.to_string(), "POST /orders");
        assert_eq!(post.method.as_deref(), Some("POST"));
        assert_eq!(parse("* *").unwrap(), Pattern { method: None, target: None });
        assert_eq!(parse("GET ~ ^/v[12]/").unwrap().target.as_deref(), Some("~ ^/v[12]/"));
        assert_eq!(parse("QUERY /x").unwrap().method.as_deref(), Some("QUERY"));
    }

    #[test]
    fn what_would_guard_nothing_is_refused() {
        for (text, said) in [
            ("/orders", "no method"),
            ("POST", "no method"),
            ("POST ", "no method"),
            ("", "empty"),
            ("post /orders", "did you mean \"POST\"?"),
            ("PSOT /orders", "did you mean \"POST\"?"),
            ("GETS /orders", "did you mean \"GET\"?"),
            ("query /orders", "capital letters"),
            ("P{ST /orders", "did you mean \"POST\"?"),
            ("GET,POST /orders", "is not a method"),
            ("GET\t/orders", "control character"),
        ] {
            let fault = parse(text).expect_err(text).to_string();
            assert!(fault.contains(said), "{text}: {fault}");
        }
    }
}
