//! One HTTP request at a time, for tests that look at every byte of the answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A request on a connection of its own, to a loopback port.
#[derive(Clone, Debug)]
pub struct Request {
    port: u16,
    method: String,
    version: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order of the answer.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn get(port: u16, path: &str) -> Request {
        Request::new("GET", port, path)
    }

    pub fn new(method: &str, port: u16, path: &str) -> Request {
        let (method, path) = (method.to_owned(), path.to_owned());
        Request { port, method, version: "1.1", path, headers: Vec::new(), body: Vec::new() }
    }

    /// As a client of HTTP/1.0 sends it.
    pub fn http_1_0(mut self) -> Request {
        self.version = "1.0";
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The API key as weir reads it by default.
    pub fn key(self, key: &str) -> Request {
        self.header("X-Api-Key", key)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole answer; an error when there is none within 10 s.
    pub fn send(&self) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Answer::parse(&bytes, self.method == "HEAD")
            .ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {:?}", text(&bytes))))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/{}\r\nHost: localhost\r\n", self.method, self.path, self.version);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

impl Answer {
    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        text(&self.body)
    }

    fn parse(bytes: &[u8], head_only: bool) -> Option<Answer> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = text(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
        if answer.header("transfer-encoding") == Some("chunked") && !head_only {
            answer.body = unchunk(&answer.body)?;
        }
        Some(answer)
    }
}

/// Joins the chunks of RFC 9112, section 7.1; `None` when the last one is missing.
fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let bytes = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nX-A: b: c\r\n\r\nbody";
        let answer = Answer::parse(bytes, false).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (429, "body"));
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.header("x-a"), Some("b: c"));
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\n", false).is_none());
    }

    #[test]
    fn chunks_are_joined_and_a_cut_answer_is_an_error() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), b"abcde");
        assert!(unchunk(b"3\r\nabc\r\n2\r\nd").is_none());
    }
}
