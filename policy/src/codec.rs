//! Small things as bytes, for the parts of an image that are read once or seldom.

use weir_limiter::{Limit, Unit, Window};

use crate::model::Over;

/// Writes one thing behind the other.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn maybe_text(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    pub fn limit(&mut self, limit: &Limit) {
        self.number(limit.amount);
        self.byte(match limit.unit {
            Unit::Requests => 0,
            Unit::Bytes => 1,
            Unit::BytesIn => 2,
            Unit::BytesOut => 3,
            Unit::Cost => 4,
        });
        // A window that slides has a length.
        self.number(match limit.window {
            Window::Day => 0,
            Window::Month => 1,
            Window::Sliding { ms } => ms,
        });
    }

    pub fn over(&mut self, over: Over) {
        let (kind, a, b) = match over {
            Over::Reject => (0, 0, 0),
            Over::Delay { ms, burst } => (1, ms, burst),
            Over::Degrade { percent } => (2, percent, 0),
        };
        self.byte(kind);
        self.number(a);
        self.number(b);
    }
}

/// Reads what a [`Writer`] wrote. None: it did not.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        Some(*self.bytes(1)?.first()?)
    }

    pub fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let len = self.count()?;
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    pub fn maybe_text(&mut self) -> Option<Option<&'a str>> {
        let is_there = self.byte()? == 1;
        let text = self.text()?;
        Some(is_there.then_some(text))
    }

    pub fn limit(&mut self) -> Option<Limit> {
        let amount = self.number()?;
        let unit = match self.byte()? {
            0 => Unit::Requests,
            1 => Unit::Bytes,
            2 => Unit::BytesIn,
            3 => Unit::BytesOut,
            4 => Unit::Cost,
            _ => return None,
        };
        let window = match self.number()? {
            0 => Window::Day,
            1 => Window::Month,
            ms => Window::Sliding { ms },
        };
        Some(Limit { amount, unit, window })
    }

    pub fn over(&mut self) -> Option<Over> {
        let (kind, a, b) = (self.byte()?, self.number()?, self.number()?);
        match kind {
            0 => Some(Over::Reject),
            1 => Some(Over::Delay { ms: a, burst: b }),
            2 => Some(Over::Degrade { percent: a }),
            _ => None,
        }
    }
}
