//! Mail addresses. They go to a mailer and into its commands, so only the plain form is taken:
//! RFC 5321 `Dot-string "@" Domain`, no quoted local parts, no address literals, ASCII.

use crate::problem::{Fault, quote};

const MAX_LOCAL: usize = 64;
const MAX_ADDRESS: usize = 254;
const MAX_LABEL: usize = 63;

/// Whether a mailer can be given this address as it stands.
pub fn check_address(text: &str) -> Result<(), Fault> {
    let is_fine = match text.split_once('@') {
        Some((local, domain)) => text.len() <= MAX_ADDRESS && is_local_part(local) && is_domain(domain),
        None => false,
    };
    if is_fine {
        return Ok(());
    }
    let remedy = match text.is_ascii() {
        true => "write it like \"api-team@example.com\"",
        false => "write it in ASCII, a domain in its xn-- form",
    };
    Err(Fault::new(format!("{} is not a mail address", quote(text)), remedy))
}

fn is_local_part(text: &str) -> bool {
    // A leading hyphen could be taken for an option by a sendmail-like program.
    text.len() <= MAX_LOCAL && !text.starts_with('-') && text.split('.').all(is_atom)
}

fn is_atom(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_domain(text: &str) -> bool {
    text.contains('.') && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let edged = text.starts_with('-') || text.ends_with('-');
    (1..=MAX_LABEL).contains(&text.len()) && !edged && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_taken() {
        let longest = format!("{}@example.com", "a".repeat(64));
        for text in ["a@b.example", "api-team+alerts@mail.acme.example", "o'neil@x-y.co", &longest] {
            assert_eq!(check_address(text), Ok(()));
        }
    }

    #[test]
    fn what_could_become_a_command_or_a_second_address_is_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a@b@c.d",
            "a b@c.d",
            "a@b.c,d@e.f",
            "<a@b.c>",
            "a@b.c\r\nRCPT TO:<x@y.z>",
            "a\n@b.c",
            "a@b.c\0",
            "-oQ/tmp@b.c",
            "\"a\nb\"@c.d",
            "\"a\"@b.c",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "a@.b.c",
            "a@b.c.",
            "a@-b.c",
            "a@b-.c",
            "a@[127.0.0.1]",
            "ä@b.c",
            "a@bücher.example",
            "a@b_c.d",
            "a@b.c ",
            "a(b)@c.d",
            "a\\@b.c",
        ] {
            assert!(check_address(text).is_err(), "{text:?}");
        }
        assert!(check_address(&format!("{}@b.c", "a".repeat(65))).is_err());
        assert!(check_address(&format!("a@{}.c", "b".repeat(64))).is_err());
        assert!(check_address(&format!("a@{}c", "b.".repeat(125))).is_ok());
        assert!(check_address(&format!("a@{}c", "b.".repeat(126))).is_err());
    }
}
