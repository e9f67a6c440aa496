//! Each mail once, whatever the server does: a server that fails on cue, and a ledger on disk.

mod common;

use std::collections::VecDeque;
use std::fs;
use std::future::{Future, ready};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{NOW, finding, policy};
use weir_reports::mail::{
    Audience, ComposeInput, Delivery, Ledger, LedgerError, MailOptions, Mailer, OutgoingMail, SendError,
    compose, deliver,
};

/// How the server treats one mail.
#[derive(Clone, Copy)]
enum Cue {
    Take,
    /// These words instead of 250 to RCPT.
    AtRecipient(&'static str),
    /// These words instead of 250 to MAIL.
    AtSender(&'static str),
    /// These words after the content.
    AfterContent(&'static str),
    /// The content is kept, and the connection breaks before the answer.
    BreakAfterContent,
    /// The content is kept, and no answer ever comes.
    SilentAfterContent,
}

/// A server that speaks SMTP over real connections and fails when told to.
struct Stage {
    port: u16,
    cues: Arc<Mutex<VecDeque<Cue>>>,
    /// The Message-ID of each mail whose content came.
    taken: Arc<Mutex<Vec<String>>>,
    _thread: JoinHandle<()>,
}

impl Stage {
    fn open(cues: &[Cue]) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cues = Arc::new(Mutex::new(cues.iter().copied().collect::<VecDeque<_>>()));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (play, kept) = (cues.clone(), taken.clone());
        let _thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (play, kept) = (play.clone(), kept.clone());
                std::thread::spawn(move || converse(stream, &play, &kept));
            }
        });
        Stage { port, cues, taken, _thread }
    }

    fn mailer(&self) -> Mailer {
        mailer(self.port)
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

fn mailer(port: u16) -> Mailer {
    let url = format!("smtp+plain://127.0.0.1:{port}");
    Mailer::new(&MailOptions { url, timeout: Duration::from_millis(700), ..MailOptions::default() }).unwrap()
}

/// One connection; the end of either side ends it.
fn converse(stream: TcpStream, cues: &Mutex<VecDeque<Cue>>, taken: &Mutex<Vec<String>>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut say = move |words: &str| out.write_all(format!("{words}\r\n").as_bytes()).ok();
    let mut cue = Cue::Take;
    say("220 stage")?;
    loop {
        let line = lines.next()?.ok()?;
        match line.split([' ', ':']).next()? {
            "EHLO" => say("250 stage")?,
            "MAIL" => {
                cue = cues.lock().unwrap().pop_front().unwrap_or(Cue::Take);
                say(if let Cue::AtSender(words) = cue { words } else { "250 fine" })?;
            }
            "RCPT" => say(if let Cue::AtRecipient(words) = cue { words } else { "250 fine" })?,
            "DATA" => {
                say("354 go on")?;
                let content: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|l| l != ".").collect();
                if let Cue::AfterContent(words) = cue {
                    say(words)?;
                    continue;
                }
                taken.lock().unwrap().extend(content.into_iter().filter(|l| l.starts_with("Message-ID:")));
                match cue {
                    Cue::BreakAfterContent => return None,
                    Cue::SilentAfterContent => {}
                    _ => say("250 taken")?,
                }
            }
            "QUIT" => return say("221 bye"),
            _ => say("250 fine")?,
        }
    }
}

/// A ledger of files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Ledger for Folder {
    fn create(&self, name: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send {
        ready(match fs::File::create_new(self.0.path().join(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(LedgerError(error.into())),
        })
    }

    fn contains(&self, name: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send {
        ready(self.0.path().join(name).try_exists().map_err(|error| LedgerError(error.into())))
    }

    fn remove(&self, name: &str) -> impl Future<Output = Result<(), LedgerError>> + Send {
        ready(fs::remove_file(self.0.path().join(name)).map_err(|error| LedgerError(error.into())))
    }
}

fn mails(count: usize) -> Vec<OutgoingMail> {
    let contacts: Vec<String> = (0..count).map(|n| format!("c{n}@acme.example")).collect();
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let policy = policy(&[("acme", "Acme", &contacts)]);
    let input = ComposeInput {
        policy: &policy,
        from: "weir@example.com",
        public_url: None,
        directories: &weir_reports::Directories::new([1; 32]),
        now_us: NOW,
    };
    compose(&finding("acme", 80), Audience::Client, &input).mails
}

/// One tick: a mailer of its own, as a new process would have.
async fn tick(stage: &Stage, mails: &[OutgoingMail], ledger: &Folder) -> Delivery {
    let mailer = stage.mailer();
    let delivery = deliver(&mailer, mails, ledger).await;
    assert!(delivery.ledger.is_none(), "{:?}", delivery.ledger);
    mailer.close().await;
    delivery
}

fn counts(delivery: &Delivery) -> (usize, usize, usize, usize) {
    (delivery.sent.len(), delivery.known, delivery.postponed.len(), delivery.refused.len())
}

#[tokio::test]
async fn a_mail_is_sent_once_however_often_it_is_due() {
    let (stage, ledger, mails) = (Stage::open(&[]), Folder::new(), mails(3));
    assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (3, 0, 0, 0));
    assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (0, 3, 0, 0));
    assert_eq!(stage.taken().len(), 3);
}

#[tokio::test]
async fn a_server_that_is_away_costs_one_attempt_and_loses_nothing() {
    let (ledger, mails) = (Folder::new(), mails(3));
    // A port that was free a moment ago: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let delivery = deliver(&mailer(free), &mails, &ledger).await;
    assert_eq!(counts(&delivery), (0, 0, 1, 0));
    assert!(matches!(delivery.postponed[0].1, SendError::Unreachable { .. }));
    assert!(ledger.names().is_empty(), "nothing is claimed");
    let stage = Stage::open(&[]);
    assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (3, 0, 0, 0));
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again() {
    for cue in [
        Cue::AtRecipient("450 greylisted"),
        Cue::AtSender("550 who are you"),
        Cue::AfterContent("451 disk full"),
    ] {
        let (stage, ledger, mails) = (Stage::open(&[cue]), Folder::new(), mails(1));
        let delivery = tick(&stage, &mails, &ledger).await;
        assert!(matches!(delivery.postponed[0].1, SendError::Temporary { .. }), "{delivery:?}");
        assert!(ledger.names().is_empty(), "the claim is taken back");
        assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (1, 0, 0, 0));
        assert_eq!(stage.taken().len(), 1);
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_reported_once_and_holds_up_nobody() {
    for cue in [Cue::AtRecipient("550 no such user"), Cue::AfterContent("554 spam")] {
        let (stage, ledger, mails) = (Stage::open(&[cue]), Folder::new(), mails(2));
        let delivery = tick(&stage, &mails, &ledger).await;
        assert_eq!(counts(&delivery), (1, 0, 0, 1));
        assert!(delivery.refused[0].1.to_string().contains("c0@acme.example"));
        assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (0, 2, 0, 0));
    }
}

#[tokio::test]
async fn an_answer_that_never_came_costs_one_duplicate_at_most() {
    for cue in [Cue::BreakAfterContent, Cue::SilentAfterContent] {
        let (stage, ledger, mails) = (Stage::open(&[cue]), Folder::new(), mails(1));
        let delivery = tick(&stage, &mails, &ledger).await;
        assert!(matches!(delivery.postponed[0].1, SendError::Unknown { .. }), "{delivery:?}");
        assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (1, 0, 0, 0));
        assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (0, 1, 0, 0));
        let taken = stage.taken();
        assert_eq!((taken.len(), &taken[0]), (2, &taken[1]), "the duplicate has the same Message-ID");
    }
}

#[tokio::test]
async fn there_is_no_third_attempt() {
    let (stage, ledger, mails) = (Stage::open(&[Cue::BreakAfterContent; 5]), Folder::new(), mails(1));
    for _ in 0..5 {
        tick(&stage, &mails, &ledger).await;
    }
    assert_eq!((stage.taken().len(), stage.cues.lock().unwrap().len()), (2, 3));
}

#[tokio::test]
async fn a_tick_that_died_after_its_claim_is_made_good() {
    let (stage, ledger, mails) = (Stage::open(&[]), Folder::new(), mails(1));
    assert!(ledger.create(&format!("{}.1", mails[0].id)).await.unwrap());
    assert_eq!(counts(&tick(&stage, &mails, &ledger).await), (1, 0, 0, 0));
    assert_eq!(stage.taken().len(), 1);
}

#[tokio::test]
async fn without_a_ledger_nothing_is_sent() {
    let (stage, mails) = (Stage::open(&[]), mails(2));
    let gone = Folder::new();
    fs::remove_dir_all(gone.0.path()).unwrap();
    let delivery = deliver(&stage.mailer(), &mails, &gone).await;
    assert!(delivery.ledger.is_some() && delivery.sent.is_empty() && stage.taken().is_empty());
}
