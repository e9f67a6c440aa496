//! The `weir` command with an installation of its own: spools, store, pages and mails in one folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::{StartError, parts};

/// An installation as `weir.toml` describes it, in a folder of the caller's.
#[derive(Clone, Debug)]
pub struct Installation {
    dir: PathBuf,
    spools: usize,
    storage: String,
    redis: Option<String>,
    is_published: bool,
    mail: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    public_url: String,
    site_more: String,
    environment: Vec<(String, String)>,
    more: String,
}

impl Installation {
    /// In `dir`, with this many spool folders and a store on the local disk.
    pub fn new(dir: &Path, spools: usize) -> Result<Installation, StartError> {
        let storage = format!("file://{}", dir.join("store").display());
        let installation = Installation {
            dir: dir.to_owned(),
            spools,
            storage,
            redis: None,
            is_published: false,
            mail: None,
            password_file: None,
            ca_file: None,
            public_url: "http://127.0.0.1".to_owned(),
            site_more: String::new(),
            environment: Vec::new(),
            more: String::new(),
        };
        for folder in installation.folders() {
            fs::create_dir_all(&folder).map_err(StartError::io(format!("making {folder:?}")))?;
        }
        Ok(installation)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = (0..self.spools).map(|n| self.spool(n)).collect();
        folders.extend(["store", "site", "portal"].map(|name| self.dir.join(name)));
        folders
    }

    /// Keeps the books elsewhere, for example in `s3://bucket`.
    pub fn storage(mut self, url: &str) -> Installation {
        self.storage = url.to_owned();
        self
    }

    /// Publishes policies through this Redis.
    pub fn redis(mut self, url: &str) -> Installation {
        self.redis = Some(url.to_owned());
        self
    }

    /// Names no policy file: the policy is what is published.
    pub fn published(mut self) -> Installation {
        self.is_published = true;
        self
    }

    /// Sends mails through this server.
    pub fn mail(mut self, url: &str) -> Installation {
        self.mail = Some(url.to_owned());
        self
    }

    /// The file that holds the password of the mail server.
    pub fn password_file(mut self, file: &Path) -> Installation {
        self.password_file = Some(file.to_owned());
        self
    }

    /// The authority by which the mail server is known.
    pub fn ca_file(mut self, file: &Path) -> Installation {
        self.ca_file = Some(file.to_owned());
        self
    }

    /// Where readers find the pages.
    pub fn public_url(mut self, url: &str) -> Installation {
        self.public_url = url.to_owned();
        self
    }

    /// More lines of `[site]`.
    pub fn site_more(&mut self, lines: &str) {
        self.site_more = lines.to_owned();
    }

    /// Sets an environment variable for `weir`.
    pub fn environment(mut self, name: &str, value: &str) -> Installation {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds sections to `weir.toml`.
    pub fn more(mut self, text: &str) -> Installation {
        self.more += text;
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn policy(&self) -> PathBuf {
        self.dir.join("policy.toml")
    }

    pub fn spool(&self, n: usize) -> PathBuf {
        self.dir.join(format!("spool-{n}"))
    }

    pub fn site(&self) -> PathBuf {
        self.dir.join("site")
    }

    pub fn portal(&self) -> PathBuf {
        self.dir.join("portal")
    }

    /// The text of `weir.toml`.
    fn config(&self) -> String {
        let spools: Vec<PathBuf> = (0..self.spools).map(|n| self.spool(n)).collect();
        let (site, portal) = (self.site(), self.portal());
        let mut text = format!("[spool]\ndirs = {spools:?}\n\n");
        if !self.is_published {
            let _ = write!(text, "[policy]\nfile = {:?}\n\n", self.policy());
        }
        let _ = write!(text, "[storage]\nurl = {:?}\n\n", self.storage);
        let _ = write!(text, "[site]\ndir = {site:?}\nportal_dir = {portal:?}\n");
        let _ = writeln!(text, "public_url = {:?}", self.public_url);
        text += &self.site_more;
        if let Some(url) = &self.redis {
            let _ = write!(text, "\n[redis]\nurl = {url:?}\n");
        }
        if let Some(url) = &self.mail {
            let _ = write!(text, "\n[mail]\nurl = {url:?}\nfrom = \"weir@example.com\"\n");
            for (key, file) in [("password_file", &self.password_file), ("ca_file", &self.ca_file)] {
                if let Some(file) = file {
                    let _ = writeln!(text, "{key} = {file:?}");
                }
            }
        }
        text + "\n" + &self.more
    }

    /// `weir -c weir.toml` and these arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Result<Command, StartError> {
        let file = self.dir.join("weir.toml");
        fs::write(&file, self.config()).map_err(StartError::io("writing weir.toml"))?;
        let mut command = Command::new(parts::weir()?);
        command.arg("-c").arg(file).args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output, StartError> {
        let mut command = self.command(arguments)?;
        command.output().map_err(|source| StartError::Spawn { name: "weir".into(), source })
    }

    /// Starts it and leaves it running, for tests that kill it half-way.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child, StartError> {
        let mut command = self.command(arguments)?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(|source| StartError::Spawn { name: "weir".into(), source })
    }

    /// Runs it, expects exit status 0, and returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String, StartError> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let name = format!("weir {}", arguments.join(" "));
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(StartError::Ended { name, status: output.status.to_string(), log })
    }

    /// The same for a command that prints JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, StartError> {
        let text = self.ok(arguments)?;
        serde_json::from_str(&text).map_err(|_| StartError::Answer {
            name: format!("weir {}", arguments.join(" ")),
            wanted: "JSON".into(),
            got: text,
        })
    }

    /// The records in all spools, as `weir cat` prints them.
    pub fn records(&self) -> Result<Vec<Value>, StartError> {
        let text = self.cat()?;
        let records: Result<Vec<Value>, serde_json::Error> = text.lines().map(serde_json::from_str).collect();
        records.map_err(|error| StartError::Answer {
            name: "weir cat".into(),
            wanted: "one JSON object a line".into(),
            got: error.to_string(),
        })
    }

    /// How many records lie in all spools.
    pub fn record_count(&self) -> Result<i64, StartError> {
        Ok(self.cat()?.lines().count() as i64)
    }

    /// Fails when the spools themselves say that something is missing.
    fn cat(&self) -> Result<String, StartError> {
        let spools: Vec<String> =
            (0..self.spools).map(|n| self.spool(n).to_string_lossy().into_owned()).collect();
        let mut arguments = vec!["cat"];
        arguments.extend(spools.iter().map(String::as_str));
        self.ok(&arguments)
    }

    /// What the roll-up of one grain (`minute`, `hour`, `day`, `month`) says.
    pub fn usage(&self, grain: &str) -> Result<Usage, StartError> {
        let json = self.json(&["export", "--grain", grain, "--format", "json"])?;
        serde_json::from_value(json).map_err(|error| StartError::Answer {
            name: "weir export".into(),
            wanted: "`rows` and `completeness`".into(),
            got: error.to_string(),
        })
    }
}

/// `weir export --format json`, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Usage {
    pub rows: Vec<Row>,
    pub completeness: Completeness,
}

/// A step of time, client, tier, endpoint and method.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    pub time: String,
    pub client: String,
    pub tier: String,
    pub endpoint: String,
    pub method: String,
    pub requests: i64,
    /// Every other column.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Completeness {
    pub records: i64,
    /// Numbers that a stream skipped.
    pub missing: i64,
}

impl Usage {
    pub fn requests(&self) -> i64 {
        self.rows.iter().map(|row| row.requests).sum()
    }

    pub fn by_client(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for row in &self.rows {
            *sums.entry(row.client.clone()).or_default() += row.requests;
        }
        sums
    }

    /// The sum of a column by its name.
    pub fn sum(&self, column: &str) -> i64 {
        self.rows.iter().filter_map(|row| row.others.get(column)).filter_map(Value::as_i64).sum()
    }
}
