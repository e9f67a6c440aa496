//! What a place (an nginx location) says about the requests it serves.

/// What happens to a request that cannot be decided because Redis cannot be asked (`weir_fallback`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackMode {
    /// This gateway admits its share of the limit.
    Local,
    Allow,
    Deny,
}

impl FallbackMode {
    pub fn parse(word: &[u8]) -> Option<FallbackMode> {
        match word {
            b"local" => Some(FallbackMode::Local),
            b"allow" => Some(FallbackMode::Allow),
            b"deny" => Some(FallbackMode::Deny),
            _ => None,
        }
    }
}

/// Which header fields tell a client of its quota (`weir_headers`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// `RateLimit` and `RateLimit-Policy`.
    Standard,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Legacy,
    Both,
    Off,
}

impl Headers {
    pub fn parse(word: &[u8]) -> Option<Headers> {
        match word {
            b"standard" => Some(Headers::Standard),
            b"legacy" => Some(Headers::Legacy),
            b"both" => Some(Headers::Both),
            b"off" => Some(Headers::Off),
            _ => None,
        }
    }

    pub fn standard(self) -> bool {
        matches!(self, Headers::Standard | Headers::Both)
    }

    pub fn legacy(self) -> bool {
        matches!(self, Headers::Legacy | Headers::Both)
    }
}

/// The settings of the place that decided about a request. They stay with the request when nginx
/// redirects it to another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub fallback: FallbackMode,
    /// Decide, tell and record, but let pass.
    pub dry_run: bool,
    /// The status of a refusal for a limit, 400 to 599.
    pub status: u16,
    pub headers: Headers,
    /// Refused clients are told to come back up to so many seconds later than they could.
    pub retry_jitter_s: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            fallback: FallbackMode::Local,
            dry_run: false,
            status: 429,
            headers: Headers::Standard,
            retry_jitter_s: 0,
        }
    }
}

/// The units that a request costs (`weir_cost`): 1 where nothing usable stands. A value that is no
/// number must not make a request free.
pub fn parse_cost(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap_or("").trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(cost) => u64::from(cost),
        Err(_) if digits => u64::from(u32::MAX),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_directives() {
        assert_eq!(FallbackMode::parse(b"deny"), Some(FallbackMode::Deny));
        assert_eq!(FallbackMode::parse(b"Deny"), None);
        assert_eq!(Headers::parse(b"both"), Some(Headers::Both));
        assert_eq!(Headers::parse(b"on"), None);
        assert!(Headers::Both.standard() && Headers::Both.legacy());
        assert!(!Headers::Off.standard() && !Headers::Off.legacy());
    }

    #[test]
    fn a_cost_that_is_no_number_is_one() {
        assert_eq!(parse_cost(b"7"), 7);
        assert_eq!(parse_cost(b" 7 "), 7);
        assert_eq!(parse_cost(b"0"), 0);
        for junk in [&b""[..], b"-3", b"1.5", b"many", b"\xff", b"+4x"] {
            assert_eq!(parse_cost(junk), 1, "{junk:?}");
        }
        assert_eq!(parse_cost(b"99999999999999999999999"), u64::from(u32::MAX), "capped, not wrapped");
    }
}
