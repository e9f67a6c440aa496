//! What lies in Redis of a release, fetched by the link's thread when another one asks for it: of a
//! gateway's workers most find the compiled policy on disk and need nothing.

use std::fmt;
use std::sync::{Arc, mpsc};

use tokio::sync::mpsc::UnboundedSender;

use crate::published::{Keys, Release};

type Fetch = dyn Fn(What) -> Option<Vec<u8>> + Send + Sync;

/// A release's text and compiled form, to be had on demand.
#[derive(Clone)]
pub struct Parcel {
    release: Release,
    fetch: Arc<Fetch>,
}

#[derive(Clone, Copy)]
enum What {
    Text,
    Image { format: u32 },
}

/// One thing that somebody waits for.
pub(crate) struct Order {
    version: u64,
    what: What,
    bytes: usize,
    to: mpsc::Sender<Option<Vec<u8>>>,
}

impl Parcel {
    /// From anywhere: `fetch` gives the text, or the image of a format.
    pub fn of(
        release: &Release,
        fetch: impl Fn(Option<u32>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Parcel {
        let fetch = move |what| match what {
            What::Text => fetch(None),
            What::Image { format } => fetch(Some(format)),
        };
        Parcel { release: release.clone(), fetch: Arc::new(fetch) }
    }

    pub(crate) fn new(release: &Release, orders: &UnboundedSender<Order>) -> Parcel {
        let (of, orders) = (release.clone(), orders.clone());
        let fetch = move |what| {
            let bytes = match what {
                What::Text => of.bytes,
                What::Image { .. } => of.image?.bytes,
            };
            let (to, answer) = mpsc::channel();
            // An error on either way is a link that was closed.
            orders.send(Order { version: of.version, what, bytes, to }).ok()?;
            answer.recv().ok().flatten()
        };
        Parcel { release: release.clone(), fetch: Arc::new(fetch) }
    }

    /// The text; waits for it. None where it can't be had now: ask again later.
    pub fn text(&self) -> Option<Vec<u8>> {
        (self.fetch)(What::Text)
    }

    /// The compiled form; waits for it. None where there is none of this format, or none to be had now:
    /// the text does as well.
    pub fn image(&self, format: u32) -> Option<Vec<u8>> {
        self.release.image.filter(|image| image.format == format)?;
        (self.fetch)(What::Image { format })
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parcel of {}", self.release)
    }
}

/// Two of the same release are equal, whoever fetches them.
impl PartialEq for Parcel {
    fn eq(&self, other: &Parcel) -> bool {
        self.release == other.release
    }
}

impl Order {
    pub fn key(&self, keys: &Keys) -> String {
        match self.what {
            What::Text => keys.text(self.version),
            What::Image { format } => keys.image(self.version, format),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn answer(self, bytes: Option<Vec<u8>>) {
        // An error is somebody who no longer waits.
        let _ = self.to.send(bytes);
    }
}
