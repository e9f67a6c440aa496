//! One request, as it is booked.

use crate::Decision;

/// The record of one finished request. Names are text as the policy spells them (client, tier,
/// endpoint, limit) or as HTTP does (method).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the request ended (log phase), microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    pub client: &'a str,
    pub tier: &'a str,
    pub endpoint: &'a str,
    pub method: &'a str,
    /// HTTP status as sent; 499 when the client went away, as in nginx's access log.
    pub status: u16,
    /// From the first byte of the request to the last byte of the answer.
    pub latency_us: u64,
    /// The share of upstream servers in it; `None` where no upstream was asked.
    pub upstream_us: Option<u64>,
    /// `$request_length`: line, header fields and body as received.
    pub bytes_in: u64,
    /// `$bytes_sent`: status line, header fields and body as sent.
    pub bytes_out: u64,
    pub decision: Decision,
    /// The limit that decided, or was nearest ("100 requests/minute"); empty where none applied.
    pub limit: &'a str,
    /// Version of the policy that decided (first 8 bytes of its SHA-256, big-endian).
    pub policy_version: u64,
}
