//! What a server may say: RESP2 within bounds.
//!
//! The library's parser believes every length and takes types that nobody asked for. This scanner
//! sits in front of it, follows the framing byte by byte and ends the connection before a reply
//! that is too large, too deep or no RESP2 at all takes any memory. The format is that of
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::secret::tame;

/// Bytes of one reply. A counter has about a thousand fields of some 30 bytes.
const MAX_REPLY: usize = 8 << 20;
/// Elements of one array.
const MAX_ITEMS: i64 = 1 << 18;
/// Arrays in arrays: EXEC's reply holds HGETALL's.
const MAX_DEPTH: usize = 4;
/// Bytes of a line: a status, an error, a number.
const MAX_LINE: usize = 16 << 10;

/// Where the scanner stands within a reply.
enum Step {
    /// Before the byte that names the type, or within the line that it begins.
    Line,
    /// This many bytes of a bulk string and its line end are to come.
    Body(usize),
}

/// Follows replies through any cuts between reads.
struct Scanner {
    step: Step,
    line: Vec<u8>,
    /// For each array that is open, how many elements are to come.
    open: Vec<i64>,
    /// Bytes of the reply so far.
    size: usize,
    /// The last error that was a reply of its own; a server that turns us away says why, then hangs
    /// up.
    error: Option<Vec<u8>>,
}

impl Scanner {
    fn new() -> Scanner {
        Scanner { step: Step::Line, line: Vec::new(), open: Vec::new(), size: 0, error: None }
    }

    /// Takes what was read; an error says what the server did wrong.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let used = match self.step {
                Step::Line => self.feed_line(bytes)?,
                Step::Body(left) => self.feed_body(bytes, left),
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn feed_body(&mut self, bytes: &[u8], left: usize) -> usize {
        let used = left.min(bytes.len());
        self.step = Step::Body(left - used);
        if used == left {
            self.value_ends();
        }
        used
    }

    fn feed_line(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        if self.line.is_empty() && !b"+-:$*".contains(&bytes[0]) {
            return Err("a reply begins with something that no reply begins with");
        }
        let end = bytes.iter().position(|&b| b == b'\n');
        let used = end.map_or(bytes.len(), |at| at + 1);
        if self.line.len() + used > MAX_LINE {
            return Err("a reply has a line that is too long");
        }
        self.line.extend_from_slice(&bytes[..used]);
        if end.is_some() {
            self.line_ends()?;
        }
        Ok(used)
    }

    fn line_ends(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let text = line[1..].strip_suffix(b"\r\n").ok_or("a reply has a line without its end")?;
        self.grow(line.len())?;
        if line[0] == b'-' && self.open.is_empty() {
            self.error = Some(text.to_vec());
        }
        if matches!(line[0], b'+' | b'-') {
            self.value_ends();
            return Ok(());
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        let number = number.ok_or("a reply has something else where a number belongs")?;
        match line[0] {
            b'$' => self.bulk_begins(number),
            b'*' => self.array_begins(number),
            _ => {
                self.value_ends();
                Ok(())
            }
        }
    }

    fn bulk_begins(&mut self, length: i64) -> Result<(), &'static str> {
        match usize::try_from(length) {
            Ok(length) => {
                self.grow(length.saturating_add(2))?;
                self.step = Step::Body(length + 2);
            }
            // -1 stands for nothing; the library takes every negative number for it.
            Err(_) => self.value_ends(),
        }
        Ok(())
    }

    fn array_begins(&mut self, items: i64) -> Result<(), &'static str> {
        if items <= 0 {
            self.value_ends();
            return Ok(());
        }
        if items > MAX_ITEMS || self.open.len() == MAX_DEPTH {
            return Err("a reply has an array that is too long or too deep");
        }
        self.open.push(items);
        Ok(())
    }

    /// Counts bytes before they come, so that a length is refused and not its content.
    fn grow(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.size = self.size.saturating_add(bytes);
        match self.size > MAX_REPLY {
            true => Err("a reply is larger than 8 MiB"),
            false => Ok(()),
        }
    }

    fn value_ends(&mut self) {
        self.step = Step::Line;
        while let Some(items) = self.open.last_mut() {
            *items -= 1;
            if *items > 0 {
                return;
            }
            self.open.pop();
        }
        self.size = 0;
    }
}

/// Why a connection ended or has to end. The first reason stays.
#[derive(Default)]
pub struct Ending {
    why: OnceLock<Arc<str>>,
    bell: Notify,
}

impl Ending {
    pub fn end(&self, why: &str) {
        if self.why.set(why.into()).is_ok() {
            self.bell.notify_one();
        }
    }

    pub fn why(&self) -> Option<Arc<str>> {
        self.why.get().cloned()
    }

    /// Waits for the end; one waiter only.
    pub async fn wait(&self) -> Arc<str> {
        loop {
            if let Some(why) = self.why() {
                return why;
            }
            self.bell.notified().await;
        }
    }
}

/// A stream whose incoming side is scanned.
pub struct Guarded<S> {
    inner: S,
    scanner: Scanner,
    ending: Arc<Ending>,
    /// What must not be seen in a reason.
    password: Option<String>,
}

impl<S> Guarded<S> {
    pub fn new(inner: S, ending: Arc<Ending>, password: Option<String>) -> Guarded<S> {
        Guarded { inner, scanner: Scanner::new(), ending, password }
    }

    fn hung_up(&self) -> String {
        let error = self.scanner.error.as_deref().map(String::from_utf8_lossy);
        match error {
            Some(text) => {
                let text = tame(&text, self.password.as_deref());
                format!("the server closed the connection; its last error was {text:?}")
            }
            None => "the server closed the connection".into(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        if let Err(error) = outcome {
            this.ending.end(&format!("the connection broke: {error}"));
            return Poll::Ready(Err(error));
        }
        let read = &buf.filled()[before..];
        if read.is_empty() {
            this.ending.end(&this.hung_up());
        }
        Poll::Ready(this.scanner.feed(read).map_err(|why| {
            this.ending.end(&format!("{why}: is this Redis?"));
            io::Error::new(io::ErrorKind::InvalidData, why)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: &[u8] =
        b"+OK\r\n+QUEUED\r\n*3\r\n*2\r\n$2\r\n17\r\n$1\r\n5\r\n:-1\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n-ERR no\r\n$-1\r\n*0\r\n";

    #[test]
    fn replies_pass_however_they_are_cut() {
        for cut in 1..EXEC.len() {
            let mut scanner = Scanner::new();
            for piece in EXEC.chunks(cut) {
                scanner.feed(piece).unwrap();
            }
            assert!(scanner.open.is_empty() && scanner.line.is_empty() && scanner.size == 0);
            assert!(matches!(scanner.step, Step::Line));
        }
    }

    #[test]
    fn a_cut_reply_leaves_the_scanner_within_it() {
        for cut in [1, 3, 20, 30, 40] {
            let mut scanner = Scanner::new();
            scanner.feed(&EXEC[..cut]).unwrap();
            assert!(!scanner.line.is_empty() || !scanner.open.is_empty(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_resp2_or_out_of_bounds_is_refused_at_its_header() {
        let deep = "*1\r\n".repeat(MAX_DEPTH + 1);
        for bytes in [
            "HTTP/1.1 400 Bad Request\r\n",
            ">2\r\n+invalidate\r\n*0\r\n",
            "%1\r\n+a\r\n+b\r\n",
            "_\r\n",
            "\u{15}\u{3}\u{3}",
            "$1073741824\r\n",
            "$9223372036854775807\r\n",
            "$99999999999999999999\r\n",
            "*1000000000\r\n",
            "*-\r\n",
            ":1.5\r\n",
            ":\n",
            "+OK\n",
            &deep,
        ] {
            assert!(Scanner::new().feed(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn many_small_parts_are_bounded_as_one_large_one_is() {
        let mut scanner = Scanner::new();
        scanner.feed(b"*200000\r\n").unwrap();
        let item = [&b"$100\r\n"[..], &[b'x'; 100], b"\r\n"].concat();
        let refused = (0..200_000).position(|_| scanner.feed(&item).is_err());
        assert!(refused.is_some_and(|n| n * item.len() <= MAX_REPLY));

        let mut scanner = Scanner::new();
        let endless = (0..100).position(|_| scanner.feed(&[b'+'; 1024]).is_err());
        assert_eq!(endless, Some(MAX_LINE / 1024));
    }

    /// A small generator is enough: any bytes, cut anywhere, end in an error or in a state whose
    /// memory is bounded.
    #[test]
    fn no_bytes_make_it_panic_or_grow() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut scanner = Scanner::new();
            let alphabet = b"+-:$*>0123456789\r\n\n\r\nx";
            let bytes: Vec<u8> = (0..64).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            let cut = random.usize(1..bytes.len());
            let _ = bytes.chunks(cut).try_for_each(|piece| scanner.feed(piece));
            assert!(scanner.line.len() <= 64 && scanner.open.len() <= MAX_DEPTH);
        }
    }
}
