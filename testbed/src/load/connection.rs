//! One keep-alive connection of HTTP/1.1, as cheap as a load client has to be.

use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to a loopback port that is opened when first used and again after it was closed.
pub(super) struct Connection {
    port: u16,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head, the empty line included.
    len: usize,
    body_len: usize,
    close: bool,
}

impl Connection {
    pub(super) fn new(port: u16) -> Connection {
        Connection { port, stream: None, buffer: Vec::with_capacity(16 * 1024) }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request and reads the whole answer; returns its status and its length. It is never
    /// sent twice: on an error nobody knows whether the server has seen it.
    pub(super) async fn exchange(&mut self, request: &[u8], patience: Duration) -> Result<(u16, usize)> {
        let answer = tokio::time::timeout(patience, self.attempt(request)).await;
        let head = answer.unwrap_or_else(|_| Err(Error::other("no answer in time")));
        if !matches!(&head, Ok(head) if !head.close) {
            self.stream = None;
        }
        head.map(|head| (head.status, head.len + head.body_len))
    }

    /// Whether the server has closed the connection, or said something unasked, while it was idle.
    fn is_stale(&self) -> bool {
        let unread = self.stream.as_ref().map(|stream| stream.try_read(&mut [0]));
        unread.is_some_and(|read| !matches!(read, Err(e) if e.kind() == ErrorKind::WouldBlock))
    }

    async fn attempt(&mut self, request: &[u8]) -> Result<Head> {
        if self.stream.is_none() || self.is_stale() {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().ok_or_else(|| Error::other("not connected"))?;
        stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::other("the server closed the connection"));
            }
            if let Some(head) = Head::parse(&self.buffer)? {
                return read_body(stream, &mut self.buffer, head).await;
            }
        }
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: Head) -> Result<Head> {
    let mut missing = (head.len + head.body_len).saturating_sub(buffer.len());
    while missing > 0 {
        buffer.clear();
        let read = stream.read_buf(buffer).await?;
        if read == 0 {
            return Err(Error::other("the server closed the connection in mid-answer"));
        }
        missing = missing.saturating_sub(read);
    }
    Ok(head)
}

impl Head {
    /// `None` while the head is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Head>> {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Ok(None);
        };
        let bad = || Error::other("not an HTTP/1.1 answer");
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| bad())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|l| l.get(9..12)).and_then(|s| s.parse().ok());
        let mut head = Head { status: status.ok_or_else(bad)?, len: end + 4, body_len: 0, close: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            head.note(name, value.trim())?;
        }
        Ok(Some(head))
    }

    fn note(&mut self, name: &str, value: &str) -> Result<()> {
        if name.eq_ignore_ascii_case("content-length") {
            self.body_len = value.parse().map_err(|_| Error::other("a bad Content-Length"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            self.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Error::other("chunked answers are not read here"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let bytes = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 12\r\nConnection: close\r\n\r\nbo";
        let head = Head { status: 429, len: bytes.len() - 2, body_len: 12, close: true };
        assert_eq!(Head::parse(bytes).unwrap(), Some(head));
        assert_eq!(Head::parse(&bytes[..40]).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(Head::parse(b"SSH-2.0\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
