//! The name by which a process marks its locks in the shared zone. A pid alone would not do: the
//! kernel gives it to somebody else when its process has died, and then the lock of the dead would
//! look like that of the living. So the name is the pid and the time at which the process began.

/// This process.
pub fn me() -> u64 {
    let pid = std::process::id();
    let began = look(pid).map_or(0, |seen| seen.began);
    u64::from(pid) | u64::from(began) << 32
}

/// Whether the process of this name lives. In doubt it does: then requests fall back, and nobody
/// takes a lock from a living owner.
pub fn alive(owner: u64) -> bool {
    let (pid, began) = (owner as u32, (owner >> 32) as u32);
    match look(pid) {
        Some(seen) => !seen.is_over && (began == 0 || began == seen.began),
        None => exists(pid),
    }
}

/// What /proc says of a process.
struct Seen {
    /// It has ended and waits for its parent to notice.
    is_over: bool,
    /// Clock ticks after the machine's start, the lower half.
    began: u32,
}

/// `None` where there is no such process, or no /proc to look into.
fn look(pid: u32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything. State and start
    // are the third and the 22nd field, see proc(5).
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let is_over = matches!(fields.next()?, "Z" | "X");
    let began = fields.nth(18)?.parse::<u64>().ok()? as u32;
    Some(Seen { is_over, began })
}

/// For a machine that hides /proc. A process that may not be signalled exists.
fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 only asks.
    let asked = unsafe { libc::kill(pid, 0) };
    asked == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
