//! Which directory is whose, for nginx: the `portal.map` that samples include within a `map`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::publish::PublishError;

/// `portal.map` beside `portal/`.
pub fn path_of(portal_dir: &Path) -> PathBuf {
    let target = fs::canonicalize(portal_dir).unwrap_or_else(|_| portal_dir.to_path_buf());
    target.with_extension("map")
}

/// Lines for nginx's `map`. Regular expressions, since its plain strings do not tell `acme` from
/// `Acme`. Ids with characters that would need more care than these are left out, and say so.
pub fn lines<'a>(clients: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::from("# Written by weir. Client id and portal directory: keep it secret.\n");
    for (id, directory) in clients {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':' | '/');
        if !id.is_empty() && id.chars().all(plain) {
            text += &format!("\"~^{}$\" {directory};\n", id.replace('.', "\\."));
        } else {
            text += &format!("# {} has an id that nginx can't match safely\n", directory);
        }
    }
    text
}

/// Puts the file in place in one step, for its owner and group alone.
pub fn write(path: &Path, text: &str) -> Result<(), PublishError> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let new = path.with_extension("map.new");
    let written = fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o640)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|source| PublishError::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_match_themselves_alone() {
        let map = lines(
            [("acme", "d1"), ("a.b", "d2"), ("x\" y;", "d3"), ("$host", "d4"), ("", "d5")]
                .map(|(id, directory)| (id, directory.to_owned()))
                .into_iter(),
        );
        assert!(map.contains("\"~^acme$\" d1;") && map.contains("\"~^a\\.b$\" d2;"), "{map}");
        for directory in ["d3", "d4", "d5"] {
            assert!(map.contains(&format!("# {directory} has an id")), "{map}");
        }
    }
}
