//! `weir.toml`: one installation. No secrets are in it; files and environment variables hold those.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir_analytics::objective::Rules;
use weir_redis_link::{Link, LinkOptions};

use crate::{clock, gateways, outgoing};

/// Where it is looked for unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/weir/weir.toml";

/// The policy, where neither the command line nor the installation names one.
pub const DEFAULT_POLICY: &str = "/etc/weir/policy.toml";

/// An installation. Paths in it are relative to the file's folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub policy: Policy,
    pub redis: Option<Redis>,
    pub gateways: Gateways,
    pub spool: Spool,
    pub storage: Storage,
    pub mail: Option<Mail>,
    pub site: Option<Site>,
    pub objectives: Objectives,
    pub maintenance: Vec<Maintenance>,
    pub calendar: Calendar,
    pub webhook: Option<Webhook>,
    pub heartbeat: Option<Heartbeat>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The policy of clients and limits.
    pub file: Option<PathBuf>,
}

/// The gateways, for commands that ask them what goes on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateways {
    /// Where each has its `weir_metrics`.
    pub metrics: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: String,
    pub prefix: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// As the parameters of weir_redis.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub sentinel_user: Option<String>,
    pub sentinel_password_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_link_local: bool,
}

impl Redis {
    /// The way to it, as a gateway would take it.
    pub fn options(&self) -> LinkOptions {
        let bare = LinkOptions::new(&self.url, clock::now_ms);
        LinkOptions {
            prefix: self.prefix.clone().unwrap_or(bare.prefix),
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            sentinel_user: self.sentinel_user.clone(),
            sentinel_password_file: self.sentinel_password_file.clone(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            allow_link_local: self.allow_link_local,
            ..bare
        }
    }

    /// What is wrong with the address or the prefix. Files are looked at when they are needed.
    fn problem(&self) -> Option<String> {
        let bare = LinkOptions::new(&self.url, clock::now_ms);
        let prefix = self.prefix.clone().unwrap_or_else(|| bare.prefix.clone());
        let allow_link_local = self.allow_link_local;
        let error = Link::check(&LinkOptions { prefix, allow_link_local, ..bare }).err()?;
        Some(format!("[redis] {error}"))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// The spools of all gateways on this machine.
    pub dirs: Vec<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// A folder, file://, s3://, gs:// or az://. Credentials come from the environment.
    pub url: String,
    pub records_days: u32,
    pub minute_days: u32,
    pub hour_days: u32,
    /// Also at 169.254.0.0/16 and the like, where clouds hand out credentials.
    pub allow_link_local: bool,
}

impl Default for Storage {
    fn default() -> Storage {
        let url = String::new();
        Storage { url, records_days: 35, minute_days: 30, hour_days: 365, allow_link_local: false }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// smtp:// (STARTTLS) or smtps://, with the user if the server wants one.
    pub url: String,
    pub from: String,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Mails of one tick; the rest waits for the next.
    #[serde(default = "mails_per_tick")]
    pub mails_per_tick: NonZeroU32,
    /// As in [`Storage`].
    #[serde(default)]
    pub allow_link_local: bool,
}

/// Ten thousand clients are spread over half an hour.
fn mails_per_tick() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(299)
}

/// Where what the platform team is told is sent as well, as signed JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    /// Holds `whsec_` and a secret in base64.
    pub secret_file: PathBuf,
    /// Also to 169.254.0.0/16 and the like, where clouds hand out credentials.
    #[serde(default)]
    pub allow_link_local: bool,
}

/// An address that is called after each good tick: a dead tick cannot mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    pub url: String,
    #[serde(default)]
    pub allow_link_local: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The platform team's pages.
    pub dir: PathBuf,
    /// One folder for each client.
    pub portal_dir: PathBuf,
    /// Where the pages are served.
    pub public_url: Option<String>,
    /// Where readers of the pages reach the `weir_metrics` of each gateway: paths on the pages' own
    /// host, whose server asks the gateways.
    #[serde(default)]
    pub live: Vec<String>,
    /// Where readers of a portal reach `weir_usage`: a path on the portal's own host.
    pub live_usage: Option<String>,
}

impl Site {
    /// An address that the pages' Content-Security-Policy would refuse.
    fn elsewhere(&self) -> Option<&str> {
        let is_path = |url: &&String| {
            url.starts_with('/') && !url.starts_with("//") && !url.contains(char::is_whitespace)
        };
        self.live.iter().chain(&self.live_usage).find(|url| !is_path(url)).map(String::as_str)
    }
}

/// What counts against objectives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Status codes and classes of errors of the service: `5xx`, `499`.
    pub errors: Vec<String>,
    /// What a refused request is answered with: as the gateways' weir_status.
    pub refused_status: u16,
}

impl Default for Objectives {
    fn default() -> Objectives {
        Objectives { errors: vec!["5xx".to_owned()], refused_status: 429 }
    }
}

/// A time that does not count: planned, and told to clients before.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub from: toml::value::Datetime,
    pub to: toml::value::Datetime,
}

/// Days that are not like other days.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calendar {
    /// UTC dates, each in a year: 2026-12-25.
    pub holidays: Vec<toml::value::Datetime>,
}

impl Calendar {
    /// When the holidays begin, microseconds UTC.
    pub fn days(&self) -> BTreeSet<i64> {
        self.holidays.iter().filter_map(|day| crate::grain::moment(&day.to_string()).ok()).collect()
    }

    /// A holiday that is no date.
    fn problem(&self) -> Option<&toml::value::Datetime> {
        self.holidays.iter().find(|day| day.date.is_none() || day.time.is_some())
    }
}

impl Config {
    /// What is an error, a refusal, and maintenance, or which text says none of them.
    pub fn rules(&self) -> Result<Rules, String> {
        let errors = self.objectives.errors.iter().map(|text| {
            codes(text).ok_or_else(|| format!("[objectives] errors: {text:?} is no status code or class"))
        });
        let maintenance = self.maintenance.iter().map(|planned| {
            let at = |text: &toml::value::Datetime| crate::grain::moment(&text.to_string()).ok();
            let span = at(&planned.from).zip(at(&planned.to)).filter(|(from, to)| from < to);
            let wrong = || format!("[[maintenance]] from {} to {} is no time", planned.from, planned.to);
            span.map(|(from, to)| from..to).ok_or_else(wrong)
        });
        Ok(Rules {
            errors: errors.collect::<Result<_, _>>()?,
            refused_status: self.objectives.refused_status,
            maintenance: maintenance.collect::<Result<_, _>>()?,
        })
    }
}

/// `5xx`: 500 to 599; `499`: that one.
fn codes(text: &str) -> Option<Range<u16>> {
    if let Some(class @ 1..=5) = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()) {
        return Some(class * 100..class * 100 + 100);
    }
    let code = text.parse().ok().filter(|code| (100..600).contains(code))?;
    Some(code..code + 1)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}; name the installation's weir.toml with -c FILE", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {problem}; {remedy}", path.display())]
    Wrong { path: PathBuf, line: usize, problem: String, remedy: String },
    #[error("{}: {section} is not set; {remedy}", path.display())]
    Absent { path: PathBuf, section: &'static str, remedy: &'static str },
}

impl Config {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Config::parse(&text, path)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// The section whose address is one where clouds hand out credentials, unless it says that it may.
    fn meant_for_metadata(&self) -> Option<&'static str> {
        let of_mail = self.mail.as_ref().map(|mail| ("[mail]", &mail.url, mail.allow_link_local));
        let of_storage = ("[storage]", &self.storage.url, self.storage.allow_link_local);
        let refused =
            |(_, url, is_allowed): &(_, &String, bool)| !is_allowed && gateways::leads_to_metadata(url);
        [of_storage].into_iter().chain(of_mail).find(refused).map(|(section, ..)| section)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let wrong = |at: usize, problem: String, remedy: &str| ConfigError::Wrong {
            path: path.to_owned(),
            line: text[..at.min(text.len())].matches('\n').count() + 1,
            problem,
            remedy: remedy.to_owned(),
        };
        let config: Config = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            wrong(at, e.message().to_owned(), remedy_for(e.message()))
        })?;
        let called = [
            ("[webhook]", config.webhook.as_ref().map(|w| &w.url)),
            ("[heartbeat]", config.heartbeat.as_ref().map(|h| &h.url)),
        ];
        for (section, url) in called {
            if let Some(problem) = url.and_then(|url| outgoing::problem(url)) {
                let at = text.find(section).unwrap_or(0);
                return Err(wrong(at, format!("{section} url {problem}"), "write https://host/path"));
            }
        }
        if let Some(problem) = config.redis.as_ref().and_then(Redis::problem) {
            let at = text.find("[redis]").unwrap_or(0);
            return Err(wrong(at, problem, "write url and prefix as in the gateways' weir_redis"));
        }
        if let Some(path) = config.site.as_ref().and_then(Site::elsewhere) {
            let at = text.find("[site]").unwrap_or(0);
            let problem = format!("[site] live: {path:?} is no path on the pages' own host");
            return Err(wrong(
                at,
                problem,
                "write \"/live/gateway-1\" and let nginx pass it on (nginx/pages.conf)",
            ));
        }
        if let Some(problem) = config.gateways.metrics.iter().find_map(|url| gateways::problem(url)) {
            let at = text.find("[gateways]").unwrap_or(0);
            return Err(wrong(at, problem, "write http://host/weir/metrics or https://…"));
        }
        if let Err(problem) = config.rules() {
            let word = if problem.starts_with("[o") { "[objectives]" } else { "[[maintenance]]" };
            let at = text.find(word).unwrap_or(0);
            let remedy = "write errors = [\"5xx\", \"499\"], and from = 2026-12-24T22:00:00Z before to";
            return Err(wrong(at, problem, remedy));
        }
        if let Some(day) = config.calendar.problem() {
            let at = text.find("[calendar]").unwrap_or(0);
            return Err(wrong(at, format!("[calendar] holidays: {day} is no date"), "write 2026-12-25"));
        }
        let storage = &config.storage;
        if let Some(section) = config.meant_for_metadata() {
            let at = text.find(section).unwrap_or(0);
            let problem = format!("{section} url is the address of a cloud's metadata");
            return Err(wrong(at, problem, "name the server itself, or set allow_link_local = true there"));
        }
        if [storage.records_days, storage.minute_days, storage.hour_days].contains(&0) {
            let at = text.find("[storage]").unwrap_or(0);
            return Err(wrong(at, "[storage] keeps something for 0 days".to_owned(), "use 1 or more"));
        }
        if storage.hour_days < storage.minute_days {
            let at = text.find("[storage]").unwrap_or(0);
            let problem = "[storage] keeps hours for fewer days than minutes".to_owned();
            return Err(wrong(at, problem, "set hour_days to minute_days or more"));
        }
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        self.policy.file.iter_mut().for_each(resolve);
        self.spool.dirs.iter_mut().for_each(resolve);
        if let Some(site) = &mut self.site {
            resolve(&mut site.dir);
            resolve(&mut site.portal_dir);
        }
        if let Some(mail) = &mut self.mail {
            mail.password_file.iter_mut().chain(&mut mail.ca_file).for_each(resolve);
        }
        if let Some(webhook) = &mut self.webhook {
            resolve(&mut webhook.secret_file);
        }
        if let Some(redis) = &mut self.redis {
            let Redis { password_file, ca, cert, key, sentinel_password_file, .. } = redis;
            [password_file, ca, cert, key, sentinel_password_file].into_iter().flatten().for_each(resolve);
        }
        if !self.storage.url.is_empty() && !self.storage.url.contains("://") {
            self.storage.url = folder.join(&self.storage.url).to_string_lossy().into_owned();
        }
    }

    /// The policy file that a command is about.
    pub fn policy_file(&self, given: Option<&Path>) -> PathBuf {
        let known = given.map(Path::to_owned).or_else(|| self.policy.file.clone());
        known.unwrap_or_else(|| DEFAULT_POLICY.into())
    }

    /// The store's URL, which most commands need.
    pub fn storage_url(&self, path: &Path) -> Result<&str, ConfigError> {
        let absent = || ConfigError::Absent {
            path: path.to_owned(),
            section: "[storage] url",
            remedy: "set it to a folder or to s3://bucket/prefix",
        };
        Some(self.storage.url.as_str()).filter(|url| !url.is_empty()).ok_or_else(absent)
    }
}

fn remedy_for(message: &str) -> &'static str {
    if message.starts_with("unknown field") {
        "correct its spelling or remove it"
    } else if message.starts_with("missing field") {
        "add it to this section"
    } else if message.starts_with("invalid type") {
        "give a value of the expected type"
    } else {
        "correct the TOML here"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        Config::parse(text, Path::new("weir.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_file_is_read_and_paths_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let text = "[policy]\nfile = \"policy.toml\"\n[spool]\ndirs = [\"/a\", \"b\"]\n\
                    [storage]\nurl = \"store\"\nminute_days = 7\n\
                    [mail]\nurl = \"smtp://h\"\nfrom = \"a@b.example\"\npassword_file = \"p\"\n\
                    [site]\ndir = \"site\"\nportal_dir = \"portal\"\n\
                    [redis]\nurl = \"redis://h\"\nprefix = \"x\"\n";
        fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(config.policy.file, Some(at("policy.toml")));
        assert_eq!(config.spool.dirs, [PathBuf::from("/a"), at("b")]);
        assert_eq!(Path::new(config.storage_url(&file).unwrap()), at("store"));
        assert_eq!((config.storage.minute_days, config.storage.hour_days), (7, 365));
        assert_eq!(config.mail.unwrap().password_file, Some(at("p")));
        assert_eq!(config.site.unwrap().portal_dir, at("portal"));
    }

    #[test]
    fn mistakes_are_told_with_line_and_remedy() {
        let unknown = told("[storage]\nurl = \"x\"\nurk = 1\n");
        assert!(unknown.contains("weir.toml:3:") && unknown.contains("urk"), "{unknown}");
        assert!(unknown.contains("correct its spelling"), "{unknown}");
        assert!(told("[spool]\ndirs = 3\n").contains(":2:"));
        assert!(told("\n[mail]\nfrom = \"a\"\n").contains("missing field `url`"));
        assert!(told("[spool\n").contains(":1:"));
        assert!(told("[storage]\nhour_days = 0\n").contains("0 days"));
        assert!(told("\n[storage]\nhour_days = 7\n").contains(":2: [storage] keeps hours for fewer days"));
        assert!(told("\n[redis]\nurl = \"http://h\"\n").contains("weir.toml:2: [redis] http://h"));
        let mail = told("\n[mail]\nurl = \"smtp://169.254.169.254\"\nfrom = \"a@b.example\"\n");
        assert!(mail.contains("weir.toml:2: [mail] url is the address of a cloud's metadata"), "{mail}");
        let redis = told("\n[redis]\nurl = \"redis://169.254.169.254\"\n");
        assert!(redis.contains("weir.toml:2: [redis] ") && redis.contains("allow_link_local"), "{redis}");
        let allowed = "[redis]\nurl = \"redis://169.254.169.254\"\nallow_link_local = true\n\
                       [mail]\nurl = \"smtp://169.254.169.254\"\nfrom = \"a@b.example\"\nallow_link_local = true\n\
                       [storage]\nurl = \"http://169.254.169.254/\"\nallow_link_local = true\n";
        assert!(Config::parse(allowed, Path::new("weir.toml")).is_ok());
    }

    #[test]
    fn addresses_that_are_called_are_of_http_and_hold_no_password() {
        for url in ["file:///etc/passwd", "gopher://h/", "h/path", "https://me:secret@h/"] {
            let refused = told(&format!("\n[webhook]\nurl = {url:?}\nsecret_file = \"s\"\n"));
            assert!(refused.contains(":2: [webhook] url") && !refused.contains("secret@"), "{refused}");
        }
        assert!(told("[heartbeat]\nurl = \"ftp://h/\"\n").contains("[heartbeat] url"));
        let text = "[heartbeat]\nurl = \"https://h/ping\"\n";
        assert!(Config::parse(text, Path::new("x")).unwrap().heartbeat.is_some());
    }

    #[test]
    fn what_counts_against_objectives_is_read_and_checked() {
        let text = "objectives = { errors = [\"5xx\", \"499\"], refused_status = 503 }\n\
            [[maintenance]]\nfrom = 1970-01-01T01:00:00Z\nto = 1970-01-02\n";
        let rules = Config::parse(text, Path::new("x")).unwrap().rules().unwrap();
        assert_eq!((rules.errors, rules.refused_status), (vec![500..600, 499..500], 503));
        assert_eq!(rules.maintenance, vec![3_600_000_000..86_400_000_000]);
        assert!(told("\n[objectives]\nerrors = [\"9xx\"]\n").contains(":2: [objectives] errors: \"9xx\""));
        let turned = "[[maintenance]]\nfrom = 2026-01-02\nto = 2026-01-01\n";
        let days =
            Config::parse("[calendar]\nholidays = [1970-01-03]\n", Path::new("x")).unwrap().calendar.days();
        assert_eq!(days.into_iter().collect::<Vec<_>>(), [2 * 86_400_000_000]);
        assert!(told("[calendar]\nholidays = [12:00:00]\n").contains(":1: [calendar] holidays: 12:00:00"));
        assert!(told(turned).contains(":1: [[maintenance]] from 2026-01-02"));
    }

    #[test]
    fn live_addresses_are_paths_of_the_same_host() {
        let site = "[site]\ndir = \"a\"\nportal_dir = \"b\"\n";
        let told = told(&format!("{site}live = [\"https://gateway\"]\n"));
        assert!(told.contains("[site] live") && told.contains("/live/gateway-1"), "{told}");
        let text = format!("{site}live = [\"/live/g\"]\nlive_usage = \"/usage\"\n");
        assert_eq!(Config::parse(&text, Path::new("x")).unwrap().site.unwrap().live, ["/live/g"]);
    }

    #[test]
    fn a_store_that_is_not_set_is_told() {
        let config = Config::parse("", Path::new("weir.toml")).unwrap();
        assert!(
            config.storage_url(Path::new("weir.toml")).unwrap_err().to_string().contains("[storage] url")
        );
    }
}
