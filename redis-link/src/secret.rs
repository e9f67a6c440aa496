//! Files that hold secrets, and texts that must not.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::LinkError;

/// Longer than any password or private key; keeps a mistyped path from being slurped whole.
const MAX_BYTES: u64 = 64 * 1024;

/// Longest foreign text that goes into an event, in characters: it ends as one line of a log.
const MAX_TEXT: usize = 200;

/// Reads the password in `path`: the whole file without its trailing line end. `what` is the
/// parameter that names it.
///
/// It is read at every connect, so a rotated password needs no restart.
pub fn read_password(what: &'static str, path: &Path) -> Result<String, LinkError> {
    let unusable = |reason| LinkError::Password { what, path: path.to_owned(), reason };
    let bytes = read_private(path, what)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text"))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(unusable("it is empty"));
    }
    Ok(password.to_owned())
}

/// Reads a file that only its owner and group may read.
pub fn read_private(path: &Path, what: &'static str) -> Result<Vec<u8>, LinkError> {
    let file = open(path, what)?;
    let mode = file.metadata().map_err(|e| unreadable(path, what, e))?.mode();
    if mode & 0o006 != 0 {
        return Err(LinkError::Exposed { what, path: path.to_owned() });
    }
    slurp(file).map_err(|e| unreadable(path, what, e))
}

/// Reads a file that holds no secret, such as a certificate.
pub fn read_public(path: &Path, what: &'static str) -> Result<Vec<u8>, LinkError> {
    slurp(open(path, what)?).map_err(|e| unreadable(path, what, e))
}

fn open(path: &Path, what: &'static str) -> Result<File, LinkError> {
    let file = File::open(path).map_err(|e| unreadable(path, what, e))?;
    let is_file = file.metadata().map_err(|e| unreadable(path, what, e))?.is_file();
    match is_file {
        true => Ok(file),
        false => Err(unreadable(path, what, io::Error::other("not a regular file"))),
    }
}

fn slurp(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 64 KiB")),
        false => Ok(bytes),
    }
}

fn unreadable(path: &Path, what: &'static str, source: io::Error) -> LinkError {
    LinkError::File { what, path: path.to_owned(), source }
}

/// A URL as it may be shown: without user info and without what follows a question mark.
pub fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    // The last @ of all, since a password that was not percent-encoded may hold anything.
    let rest = match rest.rsplit_once('@') {
        Some((_, after)) => format!("***@{after}"),
        None => rest.to_owned(),
    };
    let shown = match rest.split_once('?') {
        Some((before, _)) => format!("{before}?***"),
        None => rest,
    };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

/// A server's text as it may be shown: on one line, short, and without the password, which a server
/// that does not know AUTH repeats in its error.
pub fn tame(text: &str, password: Option<&str>) -> String {
    let text = match password {
        Some(secret) if !secret.is_empty() => text.replace(secret, "***"),
        _ => text.to_owned(),
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn one_line_end_is_trimmed_and_nothing_else() {
        for (content, password) in [
            (&b"s3cret"[..], "s3cret"),
            (b"s3cret\n", "s3cret"),
            (b"s3cret\r\n", "s3cret"),
            (b" s3cret \n", " s3cret "),
            (b"s3cret\n\n", "s3cret\n"),
        ] {
            assert_eq!(read_password("password_file", file(content, 0o600).path()).unwrap(), password);
        }
    }

    #[test]
    fn unusable_files_are_refused_with_a_remedy() {
        let cases: [(&[u8], u32, &str); 4] = [
            (b"s3cret\n", 0o604, "chmod 600"),
            (b"\n", 0o600, "empty"),
            (b"\xff\n", 0o600, "UTF-8"),
            (&[b'a'; 70_000], 0o600, "64 KiB"),
        ];
        for (content, mode, part) in cases {
            let text = read_password("password_file", file(content, mode).path()).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let folder = read_password("password_file", &std::env::temp_dir()).unwrap_err().to_string();
        assert!(folder.contains("regular file"), "{folder}");
    }

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://u:p@h:1/2", "redis://***@h:1/2"),
            ("redis://u:p@ss/w@rd@h", "redis://***@h"),
            ("unix:///run/r.sock?pass=p", "unix:///run/r.sock?***"),
            ("u:p@h", "***@h"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn texts_of_servers_are_short_single_lines_without_the_password() {
        let text = "ERR unknown command 'AUTH', args: 's3cret'\n\u{1b}[31m";
        assert_eq!(tame(text, Some("s3cret")), "ERR unknown command 'AUTH', args: '***'  [31m");
        assert_eq!(tame(&"x".repeat(1000), None).len(), MAX_TEXT);
    }
}
