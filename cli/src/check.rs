//! `weir check`: whether a policy is right, and if not, everything that is wrong with it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use weir_policy::{MAX_POLICY_BYTES, Policy, Problem};

use crate::config::{Config, ConfigError};

/// Check a policy and list everything that is wrong with it.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The policy file [default: that of weir.toml, else /etc/weir/policy.toml]
    #[arg(value_name = "POLICY")]
    pub policy: Option<PathBuf>,
    /// Print problems and warnings as a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Why there is no policy to check.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("cannot read {path}: {source}; name a policy file that this user may read")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot write the result: {0}")]
    Write(#[from] io::Error),
}

/// What a policy was found to be.
type Checked = Result<Policy, Vec<Problem>>;

/// Runs `weir check`: 0 if the policy is right (it may have warnings), else 1.
pub fn run(config: &Path, args: &CheckArgs) -> ExitCode {
    match check(config, args, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weir check: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what was found; whether the policy is right.
fn check(config: &Path, args: &CheckArgs, out: &mut impl Write) -> Result<bool, CheckError> {
    // A policy can be checked where nothing is installed.
    let config = match &args.policy {
        None if config.exists() => Config::read(config)?,
        _ => Config::default(),
    };
    let path = &config.policy_file(args.policy.as_deref());
    let text = read(path).map_err(|source| CheckError::Read { path: path.clone(), source })?;
    let checked = weir_policy::parse_bytes(&text);
    if args.json {
        write_json(&checked, out)?;
    } else {
        write_text(path, &checked, out)?;
    }
    out.flush()?;
    Ok(checked.is_ok())
}

/// At most one byte more than a policy can have: an endless file must not fill the memory.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_POLICY_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn write_text(path: &Path, checked: &Checked, out: &mut impl Write) -> io::Result<()> {
    let shown = path.display();
    match checked {
        Err(problems) => problems.iter().try_for_each(|problem| write_block(path, "", problem, out)),
        Ok(policy) => {
            for warning in policy.warnings() {
                write_block(path, "warning: ", warning, out)?;
            }
            writeln!(
                out,
                "{shown}: ok, {}, {}, {}, version {:016x}",
                counted(policy.tiers.len(), "tier"),
                counted(policy.clients.len(), "client"),
                counted(policy.key_count(), "key"),
                policy.version
            )
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One problem in the form that editors find places in, and its remedy below.
fn write_block(path: &Path, kind: &str, problem: &Problem, out: &mut impl Write) -> io::Result<()> {
    let Problem { line, column, path: place, message, remedy } = problem;
    write!(out, "{}:{line}:{column}: {kind}", path.display())?;
    if !place.is_empty() {
        write!(out, "{place}: ")?;
    }
    writeln!(out, "{message}")?;
    if remedy.is_empty() { Ok(()) } else { writeln!(out, "  help: {remedy}") }
}

/// One entry of the JSON array.
#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    #[serde(flatten)]
    problem: &'a Problem,
}

fn write_json(checked: &Checked, out: &mut impl Write) -> io::Result<()> {
    let (severity, problems) = match checked {
        Ok(policy) => ("warning", policy.warnings()),
        Err(problems) => ("error", &problems[..]),
    };
    let findings: Vec<Finding<'_>> = problems.iter().map(|problem| Finding { severity, problem }).collect();
    serde_json::to_writer_pretty(&mut *out, &findings)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        weir_policy::parse_bytes(text.as_bytes())
    }

    fn as_text(text: &str) -> String {
        let mut out = Vec::new();
        write_text(Path::new("policy.toml"), &checked(text), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn as_json(text: &str) -> serde_json::Value {
        let mut out = Vec::new();
        write_json(&checked(text), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    const RIGHT: &str = "[tiers.basic]\nlimits = [\"1 requests/second\"]\n";

    #[test]
    fn a_right_policy_is_one_line() {
        let version = checked(RIGHT).unwrap().version;
        let line = format!("policy.toml: ok, 1 tier, 0 clients, 0 keys, version {version:016x}\n");
        assert_eq!(as_text(RIGHT), line);
        assert_eq!(as_json(RIGHT), serde_json::json!([]));
    }

    #[test]
    fn each_problem_is_a_place_a_message_and_a_remedy() {
        let text = "[tiers.basic]\nlimits = [\"1 requests/second\", \"9 reqests/minute\"]\n";
        assert_eq!(
            as_text(text),
            "policy.toml:2:32: tiers.basic.limits[1]: \"reqests\" is not a unit\n  \
             help: did you mean \"requests\"?\n"
        );
        let json = as_json(text);
        assert_eq!(json[0]["severity"], "error");
        assert_eq!((&json[0]["line"], &json[0]["column"]), (&2.into(), &32.into()));
        assert_eq!(json[0]["remedy"], "did you mean \"requests\"?");
    }

    #[test]
    fn warnings_stand_before_the_verdict() {
        let text = format!("{RIGHT}[clients.acme]\ntier = \"basic\"\n");
        let shown = as_text(&text);
        assert!(shown.starts_with("policy.toml:3:1: warning: clients.acme: this client has no"));
        assert!(shown.lines().last().unwrap().starts_with("policy.toml: ok, 1 tier, 1 client, 0"));
        assert_eq!(as_json(&text)[0]["severity"], "warning");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        for path in ["/no/such/policy.toml", "/"] {
            let args = CheckArgs { policy: Some(path.into()), json: false };
            let error = check(Path::new("none"), &args, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot read {path}: ")), "{error}");
        }
    }

    #[test]
    fn the_policy_is_that_of_the_installation_where_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("weir.toml");
        std::fs::write(&config, "[policy]\nfile = \"its.toml\"\n").unwrap();
        std::fs::write(dir.path().join("its.toml"), RIGHT).unwrap();
        let mut out = Vec::new();
        assert!(check(&config, &CheckArgs { policy: None, json: false }, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().contains("its.toml: ok, 1 tier"));
    }

    #[test]
    fn an_endless_file_is_too_long() {
        let args = CheckArgs { policy: Some("/dev/zero".into()), json: false };
        let mut out = Vec::new();
        assert!(!check(Path::new("none"), &args, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().contains("more than 67108864"));
    }
}
