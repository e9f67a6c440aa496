//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports are handed out below the range from which the kernel takes ports for outgoing
/// connections (32768 and up on Linux): otherwise a load client may sit on a port between the
/// moment it was found free and the moment its server binds it.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port that nobody listens on and that this process has not handed out yet. Test
/// processes that run side by side begin at different places, by process id.
pub fn free() -> u16 {
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port from {FIRST} on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_can_be_bound() {
        let ports: Vec<u16> = (0..50).map(|_| free()).collect();
        let distinct: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 50);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let next = free() + 1;
        let Ok(_held) = TcpListener::bind((Ipv4Addr::LOCALHOST, next)) else {
            return;
        };
        assert_ne!(free(), next);
    }
}
