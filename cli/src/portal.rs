//! `weir portal renew`: a client's portal gets a new address.

use std::path::Path;
use std::process::ExitCode;

use weir_analytics::claim;

use crate::installation::{self, CommandError, Installation};
use crate::mail::directories;
use crate::step::say;

/// Look after the addresses of client portals.
#[derive(clap::Subcommand)]
pub enum PortalCommand {
    /// Give a client's portal a new address, as when the old one got into the wrong hands
    Renew {
        /// The client's id
        client: String,
    },
    /// Print the directory of a client's portal
    Show {
        /// The client's id
        client: String,
    },
}

pub fn run(config: &Path, command: &PortalCommand) -> ExitCode {
    installation::run("portal", async {
        let installation = Installation::open(config, None).await?;
        let (PortalCommand::Renew { client } | PortalCommand::Show { client }) = command;
        let Some(book) = installation.book().await? else {
            return Err(CommandError::Usage(installation::NO_POLICY.to_owned()));
        };
        if book.policy().client(client).is_none() {
            return Err(CommandError::Refused(format!(
                "the policy has no client {client:?}; see `weir client list`"
            )));
        }
        if matches!(command, PortalCommand::Renew { .. }) {
            claim::renew(&installation.store, client).await?;
        }
        say(&directories(&installation).await?.of(client));
        if matches!(command, PortalCommand::Renew { .. }) {
            eprintln!("the next tick or `weir render` moves the portal there and removes the old address");
        }
        Ok(true)
    })
}
