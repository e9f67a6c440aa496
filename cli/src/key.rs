//! `weir key`: API keys, and their hashes for the policy.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use weir_policy::{MAX_KEY_BYTES, check_client_id, hash_key, spell_hash};

use crate::client::{Place, PlaceArgs};
use crate::installation::{CommandError, run as run_command};

/// Every key begins with this, so that a key that leaked is recognised by whoever finds it.
const PREFIX: &str = "weir_";

/// Make an API key, or the line that stands for one in the policy.
#[derive(clap::Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(clap::Subcommand, Debug)]
enum KeyCommand {
    /// Make a new key: print it, this once, and its line for the policy
    New {
        /// Print the line under this client's heading
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// Add the line to the client in the policy
        #[arg(long, requires = "client")]
        add: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Take a key out of the policy, by its hash or the beginning of it
    Revoke {
        #[arg(value_name = "HASH")]
        hash: String,
        /// Not at once but then, such as 2026-12-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        at: Option<jiff::Timestamp>,
        /// Why, for the history of what is published
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Read a key from standard input and print its line for the policy
    Hash,
}

/// Why there is no key, or no line for one.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("cannot read random bytes from /dev/urandom: {0}")]
    Random(io::Error),
    #[error("cannot read the key from standard input: {0}")]
    Input(io::Error),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Client(#[from] weir_policy::Fault),
    #[error("there is no key on standard input; pipe it in, as in `weir key hash < key.txt`")]
    Empty,
    #[error("the key has more than {MAX_KEY_BYTES} bytes, and such keys are never accepted")]
    TooLong,
    #[error(
        "the key has a space, a line end or another byte that is not visible ASCII, which an HTTP \
         header cannot carry as it is; give exactly one key"
    )]
    NotVisible,
}

/// Runs `weir key`.
pub fn run(config: &Path, args: &KeyArgs) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = match &args.command {
        KeyCommand::New { client: Some(id), add: true, place } => {
            drop(out);
            return run_command("key new", add(config, id, place));
        }
        KeyCommand::Revoke { hash, at, reason, place } => {
            drop(out);
            return run_command("key revoke", revoke(config, hash, *at, reason, place));
        }
        KeyCommand::New { client, .. } => File::open("/dev/urandom")
            .map_err(KeyError::Random)
            .and_then(|mut random| print_new(&mut random, client.as_deref(), &mut out)),
        KeyCommand::Hash => print_hash(&mut io::stdin().lock(), &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir key: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The policy first: a key that is shown works.
async fn add(config: &Path, id: &str, place: &PlaceArgs) -> Result<bool, CommandError> {
    let place = Place::open(config, place).await?;
    let failed = |source| CommandError::Io { what: "/dev/urandom".to_owned(), source };
    let key = File::open("/dev/urandom").and_then(|mut random| new_key(&mut random)).map_err(failed)?;
    let hash = spell_hash(&hash_key(key.as_bytes()));
    let done = place.edit(&format!("new key for client {id}"), |draft, _| draft.add_key(id, &hash)).await?;
    println!("{key}");
    Ok(done)
}

async fn revoke(
    config: &Path,
    hash: &str,
    at: Option<jiff::Timestamp>,
    reason: &str,
    place: &PlaceArgs,
) -> Result<bool, CommandError> {
    let place = Place::open(config, place).await?;
    let why = if reason.is_empty() { "revoke a key".to_owned() } else { format!("revoke a key: {reason}") };
    let at_s = at.map(jiff::Timestamp::as_second);
    place.edit(&why, |draft, policy| draft.revoke(policy, hash, at_s).map(drop)).await
}

/// The key on the first line, then what goes into the policy.
fn print_new(random: &mut impl Read, client: Option<&str>, out: &mut impl Write) -> Result<(), KeyError> {
    client.map(check_client_id).transpose()?;
    let key = new_key(random).map_err(KeyError::Random)?;
    let line = policy_line(key.as_bytes());
    match client {
        Some(id) => writeln!(out, "{key}\n\n[clients.{}]\nkeys = [{line}]", toml_key(id))?,
        None => writeln!(out, "{key}\n{line}")?,
    }
    Ok(out.flush()?)
}

/// 256 random bits in hex: a key that nobody guesses, of characters that survive any header, URL or
/// shell.
fn new_key(random: &mut impl Read) -> io::Result<String> {
    let mut bits = [0; 32];
    random.read_exact(&mut bits)?;
    Ok(bits.iter().fold(PREFIX.to_owned(), |mut key, byte| {
        // Writing to a String cannot fail.
        let _ = write!(key, "{byte:02x}");
        key
    }))
}

fn print_hash(input: &mut impl Read, out: &mut impl Write) -> Result<(), KeyError> {
    let key = read_key(input)?;
    writeln!(out, "{}", policy_line(&key))?;
    Ok(out.flush()?)
}

/// The key without the line end that `echo` adds.
fn read_key(input: &mut impl Read) -> Result<Vec<u8>, KeyError> {
    let mut key = Vec::new();
    // Enough to tell that a key is too long, line end included.
    input.take(MAX_KEY_BYTES as u64 + 3).read_to_end(&mut key).map_err(KeyError::Input)?;
    for end in [b'\n', b'\r'] {
        if key.last() == Some(&end) {
            key.pop();
        }
    }
    if key.is_empty() {
        Err(KeyError::Empty)
    } else if key.len() > MAX_KEY_BYTES {
        Err(KeyError::TooLong)
    } else if !key.iter().all(u8::is_ascii_graphic) {
        Err(KeyError::NotVisible)
    } else {
        Ok(key)
    }
}

/// `"sha256:…"`, quotes included.
fn policy_line(key: &[u8]) -> String {
    format!("\"{}\"", spell_hash(&hash_key(key)))
}

/// A key of TOML, in quotes where it needs them.
fn toml_key(id: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if id.bytes().all(bare) {
        return id.to_owned();
    }
    format!("\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(client: Option<&str>) -> Result<String, KeyError> {
        let mut out = Vec::new();
        print_new(&mut io::repeat(0xA5), client, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn hash(input: &[u8]) -> Result<String, KeyError> {
        let mut out = Vec::new();
        print_hash(&mut &*input, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_new_key_is_all_of_its_randomness_and_its_line_is_its_hash() {
        let shown = new(None).unwrap();
        let (key, line) = shown.trim_end().split_once('\n').unwrap();
        assert_eq!(key, format!("weir_{}", "a5".repeat(32)));
        assert_eq!(hash(key.as_bytes()).unwrap().trim_end(), line);
        assert!(print_new(&mut io::empty(), None, &mut Vec::new()).is_err(), "no randomness, no key");
    }

    #[test]
    fn what_is_printed_for_a_client_goes_into_a_policy() {
        for id in ["acme", "a b", "say \"hi\" \\ {x}", "Söhne"] {
            let shown = new(Some(id)).unwrap();
            let (key, lines) = shown.split_once('\n').unwrap();
            let tier = "default_tier = \"t\"\ntiers.t.limits = [\"1 requests/second\"]\n";
            let book = weir_policy::Book::compile(weir_policy::parse(&format!("{tier}{lines}")).unwrap());
            assert_eq!(book.by_key(key.as_bytes(), 0).id, id);
        }
        for id in ["", "anonymous", "a\nb"] {
            assert!(matches!(new(Some(id)), Err(KeyError::Client(_))), "{id:?}");
        }
    }

    #[test]
    fn a_key_is_hashed_without_its_line_end() {
        // FIPS 180-2, appendix B.1.
        let abc = "\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";
        for input in [&b"abc"[..], b"abc\n", b"abc\r\n"] {
            assert_eq!(hash(input).unwrap(), abc);
        }
        let longest = [b'k'; MAX_KEY_BYTES];
        assert!(hash(&longest).is_ok() && hash(&[&longest[..], b"\r\n"].concat()).is_ok());
    }

    #[test]
    fn what_no_request_could_show_is_refused() {
        assert!(matches!(hash(b""), Err(KeyError::Empty)));
        assert!(matches!(hash(b"\n"), Err(KeyError::Empty)));
        assert!(matches!(hash(&[b'k'; MAX_KEY_BYTES + 1]), Err(KeyError::TooLong)));
        assert!(matches!(hash(&[b'k'; 100_000]), Err(KeyError::TooLong)));
        for input in [&b"a b"[..], b"a\nb", b"abc\n\n", b"\xff", b"a\0", "\u{e9}".as_bytes()] {
            assert!(matches!(hash(input), Err(KeyError::NotVisible)), "{input:?}");
        }
    }
}
