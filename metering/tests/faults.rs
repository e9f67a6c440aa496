//! The disk misbehaves: files truncated under the mapping, no room, the directory removed.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{START_US, books, child_dir, child_extra, child_passes, eventually, files, options, record};
use weir_metering::{Entry, Reason, Segment, SpoolWriter, boot_id, sealed_segments};

fn open(dir: &Path) -> SpoolWriter {
    SpoolWriter::open(options(dir), boot_id().unwrap(), 7, START_US).unwrap()
}

fn active(spool: &SpoolWriter, dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    eventually("one active segment and a spare", || {
        found = files(dir, "active-");
        found.len() == 1 && spool.has_spare()
    });
    dir.join(&found[0])
}

/// In a process of its own: a guard that fails kills the process.
#[test]
#[ignore = "run by `a_truncated_file_does_not_kill`"]
fn appends_over_a_truncated_file() {
    let dir = child_dir();
    let keep: u64 = child_extra().parse().unwrap();
    let mut spool = open(&dir);
    (0..400).for_each(|number| assert!(spool.append(&record(number))));
    let file = OpenOptions::new().write(true).open(active(&spool, &dir)).unwrap();
    file.set_len(keep).unwrap();
    let mut number = 400;
    eventually("the fault is noticed", || {
        number += 1;
        !spool.append(&record(number - 1))
    });
    eventually("booking goes on", || {
        number += 1;
        spool.append(&record(number - 1))
    });
    let next = number;
    (next..next + 100).for_each(|number| assert!(spool.append(&record(number))));
    let counts = spool.close(START_US);
    let (mut records, mut last) = (0, 0);
    for path in sealed_segments(&dir).unwrap() {
        let segment = Segment::open(path).unwrap();
        last = last.max(segment.next_number());
        for entry in segment.records() {
            if let Entry::Record { number, record: read } = entry {
                assert_eq!(read, record(number));
                records += 1;
            }
        }
    }
    assert_eq!(last, next + 100);
    assert_eq!((counts.written, counts.written + counts.lost), (records, last));
    assert!(counts.lost > 0 && records >= 101);
}

#[test]
fn a_truncated_file_does_not_kill() {
    for keep in [0, 100, 4096, 8192, 10_000] {
        let temp = tempfile::tempdir().unwrap();
        child_passes("appends_over_a_truncated_file", temp.path(), &keep.to_string());
    }
}

/// A SIGBUS that is not about a segment still ends the process.
#[test]
#[ignore = "run by `a_fault_elsewhere_is_not_hidden`"]
fn faults_elsewhere() {
    let _spool = open(&child_dir());
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let map = memmap2::MmapOptions::new().len(4096).map_raw(&file).unwrap();
    file.set_len(0).unwrap();
    // SAFETY: the page is mapped; that its file has gone is what the test is about.
    unsafe { map.as_mut_ptr().write_volatile(1) };
}

#[test]
fn a_fault_elsewhere_is_not_hidden() {
    use std::os::unix::process::ExitStatusExt;
    let temp = tempfile::tempdir().unwrap();
    let status = common::child("faults_elsewhere", temp.path(), "").wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS));
}

/// Appends until there is no room, makes room, and wants everything accounted for.
fn fills_and_recovers(dir: &Path, take_room: impl FnOnce(), give_room: impl FnOnce()) {
    let mut spool = open(dir);
    assert!(spool.append(&record(0)));
    active(&spool, dir);
    take_room();
    let mut number = 1;
    let mut trouble = None;
    eventually("no room", || {
        for _ in 0..100 {
            spool.append(&record(number));
            number += 1;
        }
        spool.tick(START_US);
        trouble = trouble.take().or(spool.take_trouble());
        trouble.is_some() && spool.counts().lost > 0
    });
    give_room();
    eventually("room", || {
        number += 1;
        spool.tick(START_US);
        spool.append(&record(number - 1))
    });
    let counts = spool.counts();
    assert_eq!(counts.written + counts.lost, number);
    spool.close(START_US);
    let book = &books(dir)[&7];
    assert_eq!((book.records, book.next), (counts.written, number));
    assert_eq!(book.missing.len() as u64, counts.lost);
    assert!(book.missing.values().all(|reason| *reason == Reason::NoRoom));
}

fn limit_file_size(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid structure; ignoring the signal makes writes fail with EFBIG instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

/// In a process of its own, since the limit holds for the whole process.
#[test]
#[ignore = "run by `no_room_is_counted_and_ends`"]
fn fills_up() {
    let dir = child_dir();
    fills_and_recovers(&dir, || limit_file_size(1000), || limit_file_size(libc::RLIM_INFINITY));
}

#[test]
fn no_room_is_counted_and_ends() {
    let temp = tempfile::tempdir().unwrap();
    child_passes("fills_up", temp.path(), "");
}

/// A small file system of its own, where we may mount one.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    /// Mounts one. Where that is not allowed, runs the named test in a mount namespace of its own, where
    /// it is, and returns `None`: the work is done.
    fn mount(test: &str, options: &str) -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path());
        let output = mount.output().unwrap();
        if output.status.success() {
            return Some(Small { dir });
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(std::env::var_os(UNSHARED).is_none(), "no tmpfs can be mounted here, by any way: {said}");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        let status = again.args(["--exact", test]).env(UNSHARED, "1").status().unwrap();
        assert!(status.success(), "no right to mount a tmpfs here ({said}), nor in a namespace: run as root");
        None
    }
}

/// Set in the process that may mount.
const UNSHARED: &str = "WEIR_TEST_UNSHARED";

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_is_counted_and_ends() {
    let Some(small) = Small::mount("a_full_disk_is_counted_and_ends", "size=1m,mode=0700") else { return };
    let ballast = small.dir.path().join("ballast");
    let dir = small.dir.path().join("spool");
    let fill = || {
        use std::io::Write;
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|n| n > 0) {}
    };
    fills_and_recovers(&dir, fill, || std::fs::remove_file(&ballast).unwrap());
}

/// Room for bytes, and none for one more file.
#[test]
fn a_disk_without_inodes_is_counted_and_ends() {
    let test = "a_disk_without_inodes_is_counted_and_ends";
    let Some(small) = Small::mount(test, "size=16m,nr_inodes=40,mode=0700") else { return };
    let ballast = small.dir.path().join("ballast");
    std::fs::create_dir(&ballast).unwrap();
    let fill = || while tempfile::Builder::new().disable_cleanup(true).tempfile_in(&ballast).is_ok() {};
    fills_and_recovers(&small.dir.path().join("spool"), fill, || std::fs::remove_dir_all(&ballast).unwrap());
}

/// As the kernel does it to a file system that it no longer trusts: what is open stays open, and nothing
/// can be made or renamed.
#[test]
fn a_disk_that_turns_read_only_is_counted_and_ends() {
    let test = "a_disk_that_turns_read_only_is_counted_and_ends";
    let Some(small) = Small::mount(test, "size=16m,mode=0700") else { return };
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(small.dir.path()).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    // A file system that somebody writes to can't be mounted anew, so it is hidden by itself, read-only.
    let turn = || {
        mount(&["--bind", small.dir.path().to_str().unwrap()]);
        mount(&["-o", "remount,bind,ro"]);
    };
    let back = || assert!(Command::new("umount").arg(small.dir.path()).status().unwrap().success());
    fills_and_recovers(&small.dir.path().join("spool"), turn, back);
}

#[test]
fn a_disk_full_from_the_start_does_not_keep_the_worker_from_starting() {
    let test = "a_disk_full_from_the_start_does_not_keep_the_worker_from_starting";
    let Some(small) = Small::mount(test, "size=1m,mode=0700") else { return };
    let ballast = small.dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap_err();
    let dir = small.dir.path().join("spool");
    std::fs::create_dir(&dir).unwrap();
    let mut spool = open(&dir);
    assert!(!spool.append(&record(0)));
    assert!(spool.take_trouble().unwrap().contains("allocate"));
    assert!(spool.take_trouble().is_none());
    std::fs::remove_file(&ballast).unwrap();
    let mut number = 1;
    eventually("room", || {
        number += 1;
        spool.tick(START_US);
        spool.append(&record(number - 1))
    });
    assert_eq!(spool.counts().lost, number - 1);
    spool.close(START_US);
    let segment = Segment::open(&sealed_segments(&dir).unwrap()[0]).unwrap();
    assert_eq!((segment.header().first_number, segment.next_number()), (number - 1, number));
}

#[test]
fn a_removed_directory_is_made_again_and_the_live_segment_is_saved() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("spool");
    let mut spool = open(&dir);
    (0..300).for_each(|number| assert!(spool.append(&record(number))));
    active(&spool, &dir);
    std::fs::remove_dir_all(&dir).unwrap();
    let mut number = 300;
    eventually("the next segment is in use in a new directory", || {
        assert!(spool.append(&record(number)));
        number += 1;
        spool.tick(START_US);
        dir.exists() && !files(&dir, "active-").is_empty()
    });
    assert!(spool.append(&record(number)));
    spool.close(START_US);
    let book = &books(&dir)[&7];
    assert_eq!((book.records, book.missing.len()), (number + 1, 0));
}
