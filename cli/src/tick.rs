//! `weir tick`: whatever is due, once.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::finding::Finding;
use weir_analytics::view::QuotaFinding;
use weir_policy::Book;
use weir_reports::{PublishError, RenderError};

use crate::config::Heartbeat;
use crate::findings::Now;
use crate::installation::{self, CommandError, Installation};
use crate::lock::Lock;
use crate::step::{Told, counted};
use crate::{alerts, collect, findings, outgoing, render, retain, rollup};

/// Collect, roll up, find, mail and render whatever is due. Run it once a minute.
#[derive(clap::Args)]
pub struct TickArgs {
    /// Print a JSON object for each step
    #[arg(long)]
    pub json: bool,
}

pub fn run(config: &Path, args: &TickArgs) -> ExitCode {
    installation::run("tick", once(config, args.json))
}

/// Bytes of segments (some 60 a record) that are collected before pages and alerts are looked after again:
/// a backlog of days is taken in portions, the newest first.
const PORTION_BYTES: u64 = 256 << 20;

/// One tick: until everything that was found in the spool is collected.
pub async fn once(config: &Path, json: bool) -> Result<bool, CommandError> {
    let locked = Lock::take(config);
    if matches!(locked, Ok(None)) {
        return Ok(Told::skipped("tick", "another one is at work on this machine").print(json));
    }
    let mut good = true;
    loop {
        let installation = Installation::open(config, None).await?;
        let (collected, done) = portion(&installation, PORTION_BYTES, json).await?;
        good &= done;
        if collected == Collected::Some {
            continue;
        }
        if let Some(heartbeat) = installation.config.heartbeat.as_ref().filter(|_| good) {
            good &= beat(heartbeat).await.print(json);
        }
        return Ok(good);
    }
}

/// How much of the spool was collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collected {
    Some,
    All,
}

/// Collects so many bytes and does what is due then. A step that fails is told, and those that don't
/// need it still run.
async fn portion(
    installation: &Installation,
    most_bytes: u64,
    json: bool,
) -> Result<(Collected, bool), CommandError> {
    let collect::Step { told: collected, complete_to_us, is_more } =
        collect::step(installation, most_bytes).await;
    let so_far = if is_more { Collected::Some } else { Collected::All };
    let good = collected.print(json);
    Ok((so_far, good & rest(installation, complete_to_us, json).await?))
}

/// All that follows on collecting.
async fn rest(
    installation: &Installation,
    complete_to_us: Option<i64>,
    json: bool,
) -> Result<bool, CommandError> {
    let mut good = told("roll up", rollup::step(installation, false).await).print(json);
    good &= told("retain", retain::step(installation).await).print(json);
    let book = match installation.book().await {
        Ok(Some(book)) => book,
        Ok(None) => return Ok(render::no_policy().print(json) && good),
        Err(e) => return Ok(Told::error("policy", &e).print(json) && good),
    };
    let found = find(installation, &book).await;
    good &= found.told.print(json);
    let (policy, quotas) = (book.policy(), &found.quotas);
    // Ten thousand portals take longer than three hundred mails.
    good &= told("alert", alerts::step(installation, policy, quotas, &found.all).await).print(json);
    good &= told("render", show(installation, &book, &found, complete_to_us).await).print(json);
    Ok(good)
}

fn told(step: &'static str, result: Result<Told, CommandError>) -> Told {
    result.unwrap_or_else(|e| Told::error(step, &e))
}

async fn beat(heartbeat: &Heartbeat) -> Told {
    match outgoing::beat(&heartbeat.url, heartbeat.allow_link_local).await {
        Ok(()) => Told::new("heartbeat", "called".to_owned(), &(), Vec::new()),
        Err(error) => {
            let failed = vec![format!("the address of [heartbeat] cannot be called: {error}")];
            Told::new("heartbeat", "failed".to_owned(), &(), failed)
        }
    }
}

/// What was found: quotas as pages show them, and everything in one shape.
struct Found {
    told: Told,
    quotas: Vec<QuotaFinding>,
    all: Vec<Finding>,
    now: Option<Now>,
}

async fn find(installation: &Installation, book: &Book) -> Found {
    let (mut quotas, mut all, mut now, mut failed) = (Vec::new(), Vec::new(), None, Vec::new());
    // One that fails does not keep the others from being told.
    match findings::quotas(installation, book, render::FINDING_DAYS).await {
        Ok(found) => quotas = found,
        Err(e) => failed.push(e.to_string()),
    }
    match findings::others(installation, 1).await {
        Ok(found) => all = found,
        Err(e) => failed.push(e.to_string()),
    }
    match Now::read(installation, book).await {
        Ok(read) => now = Some(read),
        Err(e) => failed.push(e.to_string()),
    }
    all.extend(now.iter().flat_map(|now| now.findings(installation.now_us)));
    all.extend(quotas.iter().map(Finding::from));
    let count = counted(all.len() as u64, "finding");
    let line = format!("{count} in {} days", render::FINDING_DAYS);
    Found { told: Told::new("find", line, &all, failed), quotas, all, now }
}

async fn show(
    installation: &Installation,
    book: &Book,
    found: &Found,
    complete_to_us: Option<i64>,
) -> Result<Told, CommandError> {
    let books = render::recent(installation, book.policy(), complete_to_us).await?;
    match render::step(installation, book.policy(), &found.quotas, found.now.as_ref(), books).await {
        Err(CommandError::Render(RenderError::Publish(PublishError::Busy { .. }))) => {
            Ok(Told::skipped("render", "another process is writing the pages"))
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use weir_analytics::books;
    use weir_analytics::store::Store;
    use weir_analytics::view::{Grain, Totals};
    use weir_metering::{Decision, Record, SpoolOptions, SpoolWriter, sealed_segments};

    use super::*;
    use crate::clock;

    const POLICY: &str = "default_tier = \"t\"\n[tiers.t]\nlimits = [\"50 requests/hour\"]\n\
        [clients.acme]\ncontacts = [\"api@acme.example\"]\n\
        [alerts]\nto = [\"platform@example.com\"]\nthresholds = [80, 100]\n";

    /// A folder with a weir.toml and all that it names.
    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new(more: &str) -> Place {
            let folder = tempfile::tempdir().unwrap();
            let config = format!(
                "[policy]\nfile = \"policy.toml\"\n[spool]\ndirs = [\"spool\"]\n[storage]\nurl = \"store\"\n\
                 [site]\ndir = \"site\"\nportal_dir = \"portal\"\npublic_url = \"http://127.0.0.1\"\n{more}"
            );
            fs::create_dir(folder.path().join("spool")).unwrap();
            fs::write(folder.path().join("weir.toml"), config).unwrap();
            fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
            Place { folder }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Books `n` requests of acme in the spool, all of this moment.
        fn spool(&self, stream: u128, n: u64) {
            let now_us = clock::now_us() as u64;
            let options = SpoolOptions::new(self.at("spool"), "gw");
            let mut writer = SpoolWriter::open(options, 1, stream, now_us).unwrap();
            for i in 0..n {
                let record = Record {
                    time_us: now_us - n + i,
                    client: "acme",
                    tier: "t",
                    endpoint: "/orders",
                    method: "GET",
                    status: 200,
                    latency_us: 0,
                    upstream_us: None,
                    bytes_in: 1,
                    bytes_out: 2,
                    decision: Decision::Passed,
                    limit: "50 requests/hour",
                    policy_version: 1,
                };
                assert!(writer.append(&record));
            }
            writer.close(now_us);
        }

        fn tick(&self) -> bool {
            block_on(once(&self.at("weir.toml"), false)).unwrap()
        }

        fn totals(&self) -> Totals {
            self.books().platform.totals
        }

        fn client(&self, id: &str) -> Option<Totals> {
            self.books().clients.get(id).map(|usage| usage.totals.clone())
        }

        fn books(&self) -> books::Books {
            let store = Store::open(self.at("store").to_str().unwrap()).unwrap();
            let now_us = clock::now_us();
            let read = books::read(&store, now_us - 3_600_000_000, now_us, Grain::Day, None);
            block_on(read).unwrap()
        }

        fn portal(&self) -> String {
            let portals: Vec<_> = fs::read_dir(self.at("portal")).unwrap().flatten().collect();
            assert_eq!(portals.len(), 1);
            fs::read_to_string(portals[0].path().join("index.html")).unwrap()
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_tick_takes_records_to_pages_and_a_second_one_changes_nothing() {
        let place = Place::new("");
        place.spool(1, 30);
        assert!(place.tick());
        let totals = place.totals();
        assert_eq!((totals.requests, totals.bytes_out), (30, 60));
        let overview = fs::read_to_string(place.at("site/index.html")).unwrap();
        assert!(overview.contains("acme") && place.portal().contains("acme"));
        assert!(place.tick());
        assert_eq!(place.totals(), totals);
        place.spool(2, 12);
        assert!(place.tick());
        assert_eq!(place.totals().requests, 42);
        assert!(place.portal().contains("80"));
    }

    /// What happens now is on the pages before what happened days ago is collected.
    #[test]
    fn a_backlog_is_taken_in_portions_the_newest_first() {
        let place = Place::new("");
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_micros(clock::now_us() as u64);
        for stream in 1..=5 {
            place.spool(stream, 10 * stream as u64);
        }
        for (age, path) in sealed_segments(&place.at("spool")).unwrap().iter().rev().enumerate() {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(now - std::time::Duration::from_secs(3_600 * age as u64)).unwrap();
        }
        let installation = block_on(Installation::open(&place.at("weir.toml"), None)).unwrap();
        for (left, requests) in [(4, 50), (3, 90)] {
            let told = block_on(portion(&installation, 1, false)).unwrap();
            assert_eq!(told, (Collected::Some, true));
            assert_eq!(sealed_segments(&place.at("spool")).unwrap().len(), left);
            assert_eq!(place.totals().requests, requests);
            assert!(place.portal().contains(&requests.to_string()));
        }
        assert!(place.tick());
        assert_eq!((place.totals().requests, sealed_segments(&place.at("spool")).unwrap().len()), (150, 0));
    }

    /// History hangs on the id, whatever the policy says today.
    #[test]
    fn a_client_that_left_the_policy_stays_in_the_books_and_on_the_pages() {
        let place = Place::new("");
        place.spool(1, 30);
        assert!(place.tick());
        let left =
            POLICY.replace("[clients.acme]\ncontacts = [\"api@acme.example\"]\n", "[clients.globex]\n");
        fs::write(place.at("policy.toml"), left).unwrap();
        // What it sent before still comes in.
        place.spool(2, 12);
        assert!(place.tick());
        assert_eq!(place.totals().requests, 42);
        let overview = fs::read_to_string(place.at("site/index.html")).unwrap();
        assert!(overview.contains("acme"));
        let left = place.client("acme").unwrap();
        assert_eq!((left.requests, place.client("globex")), (42, None));
    }

    #[test]
    fn a_mail_server_that_is_away_holds_nothing_up() {
        let place = Place::new("[mail]\nurl = \"smtp+plain://127.0.0.1:1\"\nfrom = \"weir@example.com\"\n");
        place.spool(1, 45);
        assert!(!place.tick());
        assert_eq!(place.totals().requests, 45);
        assert!(place.at("site/index.html").exists());
    }

    #[test]
    fn a_wrong_policy_does_not_keep_records_out_of_the_books() {
        let place = Place::new("");
        place.spool(1, 5);
        fs::write(place.at("policy.toml"), "default_tear = 1\n").unwrap();
        assert!(!place.tick());
        assert_eq!(place.totals().requests, 5);
    }

    #[test]
    fn a_tick_leaves_the_work_to_the_one_that_is_at_it() {
        let place = Place::new("");
        place.spool(1, 5);
        let lock = Lock::take(&place.at("weir.toml")).unwrap();
        assert!(lock.is_some() && place.tick());
        assert!(!place.at("store").exists());
        drop(lock);
        assert!(place.tick());
        assert_eq!(place.totals().requests, 5);
    }
}
