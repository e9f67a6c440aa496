//! Which server of a Cluster keeps which keys.

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use crate::place::Host;

/// How many slots every Cluster has.
pub const SLOTS: u16 = 16384;

/// The slot of a key: CRC16 (XMODEM) of its hash tag, where it has one
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
pub fn slot_of(key: &str) -> u16 {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    let tag = key.split_once('{').and_then(|(_, rest)| Some(rest.split_once('}')?.0));
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    CRC.checksum(hashed.as_bytes()) % SLOTS
}

/// Slots from the first to the last of them, both included, and who takes writes for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    pub first: u16,
    pub last: u16,
    pub host: Host,
}

/// Reads CLUSTER SLOTS as `asked` gave it. `None` where it is none, or where nobody has any slots.
pub fn read(reply: &Value, asked: &Host) -> Option<Vec<Range>> {
    let Value::Array(all) = reply else {
        return None;
    };
    let mut ranges = all.iter().map(|item| range(item, asked)).collect::<Option<Vec<_>>>()?;
    // Whose address the Cluster does not know can't be reached.
    ranges.retain(|range| range.host.name != "?");
    ranges.sort_by_key(|range| range.first);
    (!ranges.is_empty()).then_some(ranges)
}

/// First, last, then the primary and its replicas, each with host, port and more.
fn range(item: &Value, asked: &Host) -> Option<Range> {
    let Value::Array(parts) = item else {
        return None;
    };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let name = match primary.first()? {
        // The name that it was reached by.
        Value::Nil => asked.name.clone(),
        Value::BulkString(name) if name.is_empty() => asked.name.clone(),
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        _ => return None,
    };
    let Some(Value::Int(port)) = primary.get(1) else {
        return None;
    };
    let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
    let host = Host { name, port: u16::try_from(*port).ok()? };
    Some(Range { first: slot(*first)?, last: slot(*last)?, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        for (key, slot) in [
            ("123456789", 0x31C3),
            ("foo", 12182),
            ("foo{bar}x", 5061),
            ("bar", 5061),
            ("weir:2:{acme}:requests:60000", slot_of("acme")),
            ("weir:2:{acme}:bytes:3600000:POST /{id}", slot_of("acme")),
            ("{}x", slot_of("{}x")),
            ("", 0),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_ne!(slot_of("{}x"), slot_of(""));
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(vec![])])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn only_what_is_complete_is_read() {
        let asked = Host { name: "seed".into(), port: 1 };
        let slots = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let good = Value::Array(vec![
            slots(9000, 16383, node(text("10.0.0.2"), 7001)),
            slots(0, 8000, node(Value::Nil, 7000)),
            slots(8001, 8999, node(text("?"), 7002)),
        ]);
        let ranges = read(&good, &asked).unwrap();
        let shown: Vec<_> = ranges.iter().map(|r| (r.first, r.last, r.host.to_string())).collect();
        assert_eq!(shown, [(0, 8000, "seed:7000".to_owned()), (9000, 16383, "10.0.0.2:7001".to_owned())]);
        for wrong in [
            slots(0, 16384, node(text("a"), 1)),
            slots(-1, 5, node(text("a"), 1)),
            slots(0, 5, node(text("a"), 70_000)),
            slots(0, 5, Value::Array(vec![])),
            slots(0, 5, Value::Nil),
            Value::Int(5),
        ] {
            assert_eq!(read(&Value::Array(vec![wrong]), &asked), None);
        }
        assert_eq!(read(&Value::Array(vec![]), &asked), None, "nobody has slots");
        assert_eq!(read(&Value::Okay, &asked), None);
    }
}
