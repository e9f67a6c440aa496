//! Names of clients, tiers, endpoints and routes: any text that fits on one line. What shows them
//! escapes them.

use crate::problem::{Fault, quote};

/// The longest name, in bytes: it goes into every record and into names of counters.
pub const MAX_NAME_BYTES: usize = 128;

/// The client that all unknown callers share. No client of the policy can have this id.
pub const ANONYMOUS: &str = "anonymous";

/// The tier that anonymous callers are counted under where they have no limits. No tier of the policy
/// can have this name.
pub const UNKNOWN_TIER: &str = "unknown";

/// Any text of 1 to [`MAX_NAME_BYTES`] bytes without control characters.
pub fn check_name(text: &str) -> Result<(), Fault> {
    let remedy = format!("a name has 1 to {MAX_NAME_BYTES} bytes and no control characters");
    if text.is_empty() {
        Err(Fault::new("the name is empty", remedy))
    } else if text.len() > MAX_NAME_BYTES {
        Err(Fault::new(format!("the name has {} bytes", text.len()), remedy))
    } else if text.chars().any(char::is_control) {
        Err(Fault::new(format!("the name {} has a control character", quote(text)), remedy))
    } else {
        Ok(())
    }
}

/// A name that no shared client has.
pub fn check_client_id(text: &str) -> Result<(), Fault> {
    check_name(text)?;
    if text == ANONYMOUS {
        let message = format!("the client id {ANONYMOUS:?} stands for all unknown callers");
        return Err(Fault::new(message, "choose another id; [unknown] says what unknown callers may"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_on_a_line() {
        for name in ["acme", "<b>\"Acme\" & Söhne</b>", "{a}%", "*", &"n".repeat(128)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "a\nb", "a\0", "\u{7f}", "\u{85}", &"n".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_client_id(ANONYMOUS).is_err());
        assert!(check_client_id("Anonymous").is_ok());
    }
}
