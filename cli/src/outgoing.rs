//! Calls to addresses that the installation names: the webhook and the heartbeat.
//!
//! An address is resolved first and the call goes to just what was found, so that a name cannot point
//! elsewhere in between. No redirect is followed. Where clouds hand out credentials nobody is called.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

/// For all of one call.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is wrong with an address, if anything; what may be a password is not repeated.
pub fn problem(url: &str) -> Option<&'static str> {
    match Url::parse(url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("is not of http or https"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("has a user or password in it")
        }
        Ok(url) if url.host_str().is_some() => None,
        _ => Some("is not an address"),
    }
}

/// A client that can call this address and nothing else. The error does not repeat the address, which
/// may be a secret itself.
pub async fn client(url: &str, allow_link_local: bool) -> Result<(Client, Url), String> {
    let url = Url::parse(url).map_err(|_| "it is not an address".to_owned())?;
    let found = resolved(&url, allow_link_local).await?;
    let built = Client::builder()
        .timeout(PATIENCE)
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .resolve_to_addrs(url.host_str().unwrap_or_default(), &found)
        .build();
    Ok((built.map_err(|error| error.to_string())?, url))
}

/// Where an address leads.
async fn resolved(url: &Url, allow_link_local: bool) -> Result<Vec<SocketAddr>, String> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let found = match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((bare, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<SocketAddr>>(),
        Ok(Err(error)) => return Err(format!("its name cannot be resolved: {error}")),
        Err(_) => return Err(format!("its name was not resolved within {} s", PATIENCE.as_secs())),
    };
    match found.iter().find(|address| !allow_link_local && is_refused(address.ip())) {
        Some(address) => Err(format!(
            "it is {}, a link-local or metadata address; set allow_link_local if that is meant",
            address.ip()
        )),
        None => Ok(found),
    }
}

/// Link-local, where clouds answer at 169.254.169.254; what no host has; and fd00:ec2::254.
fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_refused(IpAddr::V4(v4)),
            None => {
                let is_metadata = v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
                v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || is_metadata
            }
        },
    }
}

/// The innermost cause, which says most, without the address.
pub fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Calls the heartbeat. The error says what happened.
pub async fn beat(url: &str, allow_link_local: bool) -> Result<(), String> {
    let (client, url) = client(url, allow_link_local).await?;
    let answer = client.get(url).send().await.map_err(|error| told(&error.without_url()))?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answered {}", answer.status())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_clouds_hand_out_credentials_nobody_is_called() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            assert!(is_refused(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "127.0.0.1", "::1", "93.184.216.34", "fd00::1"] {
            assert!(!is_refused(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_refused_address_is_told_and_may_be_allowed() {
        // The last two are other ways to write the first.
        for host in ["169.254.169.254", "0xa9fea9fe", "2852039166"] {
            let url = Url::parse(&format!("http://{host}/latest")).unwrap();
            assert!(resolved(&url, false).await.unwrap_err().contains("allow_link_local"), "{host}");
            assert!(resolved(&url, true).await.is_ok(), "{host}");
        }
    }
}
