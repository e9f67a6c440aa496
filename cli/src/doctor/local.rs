//! What can be seen on this machine: the policy, files with secrets, the spools.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use weir_metering::sealed_segments;
use weir_policy::parse_bytes;

use super::Report;
use crate::clock;
use crate::config::Config;
use crate::step::counted;

/// A sealed segment that nobody has collected for so long.
const LATE: Duration = Duration::from_secs(600);
/// What a spool grows to by default; so much of its disk should be left.
const SPARE: u64 = 1 << 30;

/// The version of the policy, if there is one that is right.
pub fn policy(config: &Config, report: &mut Report) -> Option<u64> {
    let Some(path) = &config.policy.file else {
        // It may be published instead, which `published` looks at.
        if config.redis.is_some() {
            return None;
        }
        report.note("policy", "weir.toml names no policy", "set [policy] file, for pages and mails");
        return None;
    };
    let shown = path.display();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let found = format!("{shown} can't be read: {error}");
            report.wrong("policy", found, "correct [policy] file, or the file's permissions");
            return None;
        }
    };
    let remedy = format!("run `weir check {shown}`");
    match parse_bytes(&bytes) {
        Err(problems) => {
            let found = format!("{shown} has {} problems; the first: {}", problems.len(), problems[0]);
            report.wrong("policy", found, &remedy);
            None
        }
        Ok(policy) => {
            let counts = format!(
                "{shown}: {}, {}, version {:016x}",
                counted(policy.tiers.len() as u64, "tier"),
                counted(policy.clients.len() as u64, "client"),
                policy.version
            );
            match policy.warnings().len() {
                0 => report.ok("policy", counts),
                warnings => {
                    let warnings = counted(warnings as u64, "warning");
                    report.note("policy", format!("{counts}; {warnings}"), &remedy);
                }
            }
            Some(policy.version)
        }
    }
}

/// Files that only their owner and group should read.
pub fn secrets(config: &Config, report: &mut Report) {
    let redis = config.redis.as_ref().and_then(|redis| redis.password_file.as_deref());
    let mail = config.mail.as_ref().and_then(|mail| mail.password_file.as_deref());
    for (what, path) in [("[redis]", redis), ("[mail]", mail)] {
        let Some(path) = path else { continue };
        let found = |text: String| format!("the {what} password_file {} {text}", path.display());
        match fs::metadata(path) {
            Err(error) => {
                report.wrong("secrets", found(format!("can't be read: {error}")), "make it, mode 640");
            }
            Ok(meta) if meta.mode() & 0o006 != 0 => {
                let remedy = format!("chmod o-rwx {}", path.display());
                report.wrong("secrets", found("can be read by everybody on this machine".into()), &remedy);
            }
            Ok(_) => report.ok("secrets", found("is private".into())),
        }
    }
}

pub fn spools(config: &Config, report: &mut Report) {
    for dir in &config.spool.dirs {
        spool(dir, report);
    }
}

fn spool(dir: &Path, report: &mut Report) {
    let shown = dir.display();
    let segments = match sealed_segments(dir) {
        Ok(segments) => segments,
        Err(error) => {
            return report.wrong(
                "spool",
                error.to_string(),
                "nginx makes it at its start: correct [spool] dirs or weir_spool",
            );
        }
    };
    let now_s = clock::now_us() / 1_000_000;
    let ages = segments.iter().filter_map(|path| Some(now_s - fs::metadata(path).ok()?.mtime()));
    let oldest_s = ages.max().unwrap_or(0);
    let found = format!("{shown}: {} sealed segments wait to be collected", segments.len());
    if oldest_s > LATE.as_secs() as i64 {
        let found = format!("{found}, the oldest for {} min", oldest_s / 60);
        report.wrong("spool", found, "see to it that `weir tick` runs once a minute, and what it says");
    } else {
        report.ok("spool", found);
    }
    if let Ok(disk) = statvfs(dir) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < SPARE {
            let found = format!("{} MB of the disk of {shown} are free", free / 1_000_000);
            report.wrong("spool", found, "make room: when it is full, records are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::State;
    use super::*;

    fn states(report: &Report) -> Vec<(State, &str)> {
        report.findings.iter().map(|finding| (finding.state, finding.what.as_str())).collect()
    }

    #[test]
    fn a_policy_is_missing_wrong_doubtful_or_right() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.policy.file = Some(folder.path().join("policy.toml"));
        let file = config.policy.file.clone().unwrap();
        let mut report = Report::default();
        assert_eq!(policy(&config, &mut report), None);
        fs::write(&file, "default_tear = 1\n").unwrap();
        assert_eq!(policy(&config, &mut report), None);
        let right = "[tiers.t]\nlimits = [\"5 requests/hour\"]\n";
        fs::write(&file, format!("{right}[clients.a]\ntier = \"t\"\n")).unwrap();
        assert!(policy(&config, &mut report).is_some());
        fs::write(&file, right).unwrap();
        assert!(policy(&config, &mut report).is_some());
        let found = [State::Wrong, State::Wrong, State::Note, State::Ok].map(|state| (state, "policy"));
        assert_eq!(states(&report), found);
        assert!(report.findings[1].remedy.starts_with("run `weir check"));
    }

    #[test]
    fn a_password_that_everybody_can_read_is_wrong_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "hunter2").unwrap();
        let text = format!("[redis]\nurl = \"redis://h\"\npassword_file = {file:?}\n");
        let config: Config = toml::from_str(&text).unwrap();
        for (mode, state) in [(0o644, State::Wrong), (0o640, State::Ok)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let mut report = Report::default();
            secrets(&config, &mut report);
            assert_eq!(states(&report), [(state, "secrets")]);
            assert!(!format!("{report:?}").contains("hunter2"));
        }
    }

    #[test]
    fn segments_that_nobody_collects_are_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut report = Report::default();
        spool(folder.path(), &mut report);
        assert_eq!(report.findings[0].state, State::Ok);
        let segment = folder.path().join(format!("{:032x}-{:010}.weir", 7, 0));
        let file = fs::File::create(&segment).unwrap();
        let hour_ago = std::time::UNIX_EPOCH + Duration::from_micros(clock::now_us() as u64) - 6 * LATE;
        file.set_modified(hour_ago).unwrap();
        let mut report = Report::default();
        spool(folder.path(), &mut report);
        assert!(report.findings[0].found.contains("the oldest for 60 min"), "{report:?}");
        let mut report = Report::default();
        spool(&folder.path().join("none"), &mut report);
        assert_eq!(report.findings[0].state, State::Wrong);
    }
}
