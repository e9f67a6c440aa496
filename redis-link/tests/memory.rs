//! Memory stays small whatever a server announces. Alone in its process, whose memory it measures.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use common::fake::{Fake, Reply, Script};
use common::watched::Watched;
use common::{add, options};

/// The most memory that this process ever held, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_gigabyte_takes_no_memory_however_it_is_announced() {
    let before = peak_kib();
    for header in [
        "$1073741824\r\n",
        "+",
        "-ERR ",
        ":",
        "*200000\r\n$8000000\r\n",
        "*4\r\n*2\r\n$1\r\n1\r\n$1\r\n0\r\n:1\r\n*2\r\n$8388608\r\n",
    ] {
        let endless = Reply::Endless(header.as_bytes().to_vec());
        let fake = Fake::start(Script::from([("EXEC", endless)]));
        let mut link = Watched::up(options(&fake.url()));
        link.ask(add(1, "a", &[(1, 1)])).unwrap_err();
        link.wait_up();
    }
    let grown = peak_kib() - before;
    assert!(grown < 48 << 10, "{grown} KiB");
}
