//! Asking Sentinels which server takes writes.

use std::sync::Arc;

use redis::Value;
use tokio::time::timeout;

use crate::dial::ask;
use crate::options::Plan;
use crate::place::Host;

/// The address of the master. The one that answers is asked first the next time.
pub async fn master(plan: &Plan, sentinels: &mut [Host], name: &str) -> Result<Host, Arc<str>> {
    let mut why: Arc<str> = "there are no Sentinels".into();
    for at in 0..sentinels.len() {
        let limit = plan.dial_limit();
        let sentinel = &sentinels[at];
        why = match timeout(limit, ask_one(plan, sentinel, name)).await {
            Ok(Ok(host)) => {
                sentinels[..=at].rotate_right(1);
                return Ok(host);
            }
            Ok(Err(why)) => format!("Sentinel {sentinel}: {why}").into(),
            Err(_) => format!("Sentinel {sentinel} did not answer within {} ms", limit.as_millis()).into(),
        };
    }
    Err(why)
}

async fn ask_one(plan: &Plan, sentinel: &Host, name: &str) -> Result<Host, Arc<str>> {
    let credentials = plan.sentinel_credentials().map_err(|e| e.to_string())?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(name);
    let answer = ask(plan, sentinel, credentials.as_ref(), question).await?;
    read(&answer, name)
}

fn read(answer: &Value, name: &str) -> Result<Host, Arc<str>> {
    let parts = match answer {
        Value::Nil => return Err(format!("it watches no master named {name:?}").into()),
        Value::Array(parts) => parts.as_slice(),
        _ => &[],
    };
    let host = match parts {
        [Value::BulkString(host), Value::BulkString(port)] => {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
            text(host).zip(text(port).and_then(|port| port.parse().ok()))
        }
        _ => None,
    };
    let (name, port) =
        host.filter(|(name, port)| !name.is_empty() && *port != 0).ok_or("it gave no address")?;
    Ok(Host { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_taken_for_one() {
        let text = |text: &str| Value::BulkString(text.into());
        let read = |parts: &[&str]| read(&Value::Array(parts.iter().map(|t| text(t)).collect()), "m");
        assert_eq!(read(&["10.0.0.1", "6380"]).unwrap().to_string(), "10.0.0.1:6380");
        assert_eq!(read(&["fe80::1", "6380"]).unwrap().to_string(), "[fe80::1]:6380");
        for wrong in [&["10.0.0.1"][..], &["", "1"], &["a", "0"], &["a", "x"], &["a", "99999"], &[]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(super::read(&Value::Nil, "main").unwrap_err().contains("no master named \"main\""));
        assert!(super::read(&Value::Okay, "main").is_err());
    }
}
