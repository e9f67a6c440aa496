//! A server that speaks S3 (moto), in memory.

use std::process::Command;
use std::time::Duration;

use crate::http::Request;
use crate::process::Process;
use crate::{StartError, TempDir, parts, ports, temp_dir};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// moto looks for an account in this field and checks no signature; without it, it takes the caller
/// for the public, who may not replace an object.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
    SignedHeaders=host, Signature=0";

/// An S3-compatible store of its own with one bucket. Any key is accepted; use `test` and `test`.
pub struct S3 {
    port: u16,
    bucket: String,
    process: Process,
    _dir: TempDir,
}

impl S3 {
    pub fn start(bucket: &str) -> Result<S3, StartError> {
        S3::start_on(ports::free(), bucket)
    }

    /// On a given port, so that a test can have it away first.
    pub fn start_on(port: u16, bucket: &str) -> Result<S3, StartError> {
        let dir = temp_dir();
        let mut command = Command::new(parts::moto()?);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut process = Process::spawn("moto_server", command, &dir.path().join("s3.log"))?;
        process.ready(READY_WITHIN, || Request::get(port, "/").send().is_ok())?;
        let s3 = S3 { port, bucket: bucket.to_owned(), process, _dir: dir };
        s3.make_bucket()?;
        Ok(s3)
    }

    fn make_bucket(&self) -> Result<(), StartError> {
        let path = format!("/{}", self.bucket);
        let answer = Request::new("PUT", self.port, &path)
            .header("Authorization", AUTHORIZATION)
            .header("Content-Length", "0")
            .send()
            .map_err(StartError::io("making the bucket"))?;
        let (name, wanted) = ("moto_server".to_owned(), "200".to_owned());
        match answer.status {
            200 => Ok(()),
            got => Err(StartError::Answer { name, wanted, got: got.to_string() }),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("s3://{}", self.bucket)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Puts an object into the bucket.
    pub fn put(&self, key: &str, body: &str) -> std::io::Result<()> {
        let path = format!("/{}/{key}", self.bucket);
        let request = Request::new("PUT", self.port, &path).body(body);
        let answer = request.header("Authorization", AUTHORIZATION).send()?;
        match answer.status {
            200 => Ok(()),
            status => Err(std::io::Error::other(format!("putting {key}: {status}"))),
        }
    }

    /// The keys in the bucket that begin with `prefix`, as the store lists them.
    pub fn keys(&self, prefix: &str) -> std::io::Result<Vec<String>> {
        let path = format!("/{}?list-type=2&prefix={prefix}", self.bucket);
        let xml = Request::get(self.port, &path).header("Authorization", AUTHORIZATION).send()?.text();
        let keys = xml.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        Ok(keys.map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_listed_and_a_create_only_put_is_refused_the_second_time() {
        let s3 = S3::start("books").unwrap();
        let put = || {
            let request = Request::new("PUT", s3.port(), "/books/records/a").body("x");
            let request = request.header("If-None-Match", "*");
            request.header("Authorization", AUTHORIZATION).send().unwrap().status
        };
        assert_eq!((put(), put()), (200, 412));
        assert_eq!(s3.keys("records/").unwrap(), ["records/a"]);
        assert!(s3.keys("usage/").unwrap().is_empty());
    }
}
