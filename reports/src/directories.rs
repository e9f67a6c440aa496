//! Names of directories and files that say nothing about whose they are, and that nobody can guess.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::site::hex;

/// What the names are made of.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    pub secret: [u8; 32],
    /// How often the directory of a client was given up for a new one, by the client's id.
    pub renewed: BTreeMap<String, u32>,
}

impl Directories {
    pub fn new(secret: [u8; 32]) -> Directories {
        Directories { secret, renewed: BTreeMap::new() }
    }

    /// The directory of a client's portal: 128 bits in hex that nobody can guess without the secret,
    /// and that say nothing about the id. It stays until it is renewed, or the secret is.
    pub fn of(&self, client_id: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(client_id.as_bytes());
        if let Some(times) = self.renewed.get(client_id).filter(|times| **times > 0) {
            // A byte that no id has.
            hash.update([0xff]);
            hash.update(times.to_le_bytes());
        }
        hex(&hash.finalize()[..16])
    }

    /// The address of a client's portal below `public_url`.
    pub fn url(&self, public_url: &str, client_id: &str) -> String {
        format!("{}/portal/{}/", public_url.trim_end_matches('/'), self.of(client_id))
    }

    /// The file of a platform's page about one client or endpoint: no name can lead elsewhere, and no
    /// two names have one file. It is no directory of a portal.
    pub fn page(&self, folder: &str, name: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(b"page");
        hash.update(self.secret);
        hash.update(folder.as_bytes());
        hash.update([0]);
        hash.update(name.as_bytes());
        format!("{folder}/{}.html", hex(&hash.finalize()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(secret: u8, id: &str) -> String {
        Directories::new([secret; 32]).of(id)
    }

    #[test]
    fn directories_are_128_bits_of_hex_whatever_the_id() {
        let ids = ["acme", "Acme", "../../etc/passwd", "%2e%2e", "CON", "a/b", "\0", "é", "e\u{301}", ""];
        let mut seen: BTreeSet<String> = ids.iter().map(|id| of(7, id)).collect();
        seen.insert(of(7, &"x".repeat(300)));
        seen.insert(of(8, "acme"));
        assert_eq!(seen.len(), ids.len() + 2, "no two are the same");
        let pages: BTreeSet<String> =
            ids.iter().map(|id| Directories::new([7; 32]).page("client", id)).collect();
        assert_eq!(pages.len(), ids.len());
        assert!(ids.iter().all(|id| !Directories::new([7; 32]).page("", id).contains(&of(7, id))));
        assert!(seen.iter().all(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_eq!(of(7, "acme"), of(7, "acme"));
    }

    #[test]
    fn a_renewed_directory_is_another_one_and_no_other_clients() {
        let mut directories = Directories::new([7; 32]);
        let (before, other) = (directories.of("acme"), directories.of("globex"));
        directories.renewed.insert("acme".to_owned(), 1);
        assert!(directories.of("acme") != before && directories.of("globex") == other);
        directories.renewed.insert("acme".to_owned(), 2);
        assert!(directories.of("acme") != before);
    }
}
