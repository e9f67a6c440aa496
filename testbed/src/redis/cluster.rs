//! A Redis Cluster: six servers, three of them primaries.

use std::ops::RangeInclusive;

use super::{Redis, agreed, redis_cli, tls_options};
use crate::tls::Tls;
use crate::{StartError, TempDir, ports, temp_dir};

/// How long a primary may be silent before it is replaced, in ms.
const NODE_TIMEOUT: &str = "2000";

/// Six servers on loopback. Each is known by its place in [`nodes`](RedisCluster::nodes).
pub struct RedisCluster {
    nodes: Vec<Redis>,
    scheme: &'static str,
    cli: Vec<String>,
    _certificates: Option<TempDir>,
}

/// What a server says of itself and of others in CLUSTER NODES.
struct Entry {
    port: u16,
    is_primary: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl RedisCluster {
    pub fn start() -> Result<RedisCluster, StartError> {
        RedisCluster::make("redis+cluster", Vec::new(), None, |_| Vec::new())
    }

    /// With TLS and a password; the certificate authority is [`ca`](RedisCluster::ca).
    pub fn start_secured(password: &str) -> Result<RedisCluster, StartError> {
        let dir = temp_dir();
        let tls = Tls::make(dir.path())?;
        let mut cli = tls_options(&tls, 0).1;
        cli.extend(["-a", password].map(str::to_owned));
        RedisCluster::make("rediss+cluster", cli, Some(dir), |port| {
            let mut options = tls_options(&tls, port).0;
            options.extend(["--requirepass", password, "--masterauth", password].map(str::to_owned));
            options
        })
    }

    fn make(
        scheme: &'static str,
        cli: Vec<String>,
        certificates: Option<TempDir>,
        more: impl Fn(u16) -> Vec<String>,
    ) -> Result<RedisCluster, StartError> {
        let start = |_| {
            Redis::start_somewhere(|port| {
                let bus = ports::free().to_string();
                let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT];
                let own = own.into_iter().chain(["--cluster-port", &bus]).map(str::to_owned);
                more(port).into_iter().chain(own).collect()
            })
        };
        let nodes = (0..6).map(start).collect::<Result<Vec<_>, _>>()?;
        let cluster = RedisCluster { nodes, scheme, cli, _certificates: certificates };
        let mut words = vec!["--cluster", "create"];
        let addresses: Vec<String> =
            cluster.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
        words.extend(addresses.iter().map(String::as_str));
        words.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        cluster.cli(0, &words).map_err(StartError::io("making a Redis Cluster"))?;
        cluster.await_whole()?;
        Ok(cluster)
    }

    /// As `weir_redis` takes it, all six hosts.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
        format!("{}://{}", self.scheme, hosts.join(","))
    }

    /// Who signs its certificates, where it speaks TLS.
    pub fn ca(&self) -> Option<std::path::PathBuf> {
        self._certificates.as_ref().map(|dir| dir.path().join("ca.pem"))
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    pub fn node_mut(&mut self, node: usize) -> &mut Redis {
        &mut self.nodes[node]
    }

    /// Runs redis-cli against a node.
    pub fn cli(&self, node: usize, words: &[&str]) -> std::io::Result<String> {
        redis_cli(self.nodes[node].port(), &self.cli, words)
    }

    /// The nodes that have slots, as `asked` sees it.
    pub fn primaries(&self, asked: usize) -> Vec<usize> {
        self.map(asked).iter().filter(|e| !e.slots.is_empty()).filter_map(|e| self.place(e.port)).collect()
    }

    /// A replica of a node, as `asked` sees it.
    pub fn replica_of(&self, node: usize, asked: usize) -> Option<usize> {
        let id = self.id(node);
        let text = self.cli(asked, &["CLUSTER", "REPLICAS", &id]).ok()?;
        entries(&text).first().and_then(|entry| self.place(entry.port))
    }

    /// The node that keeps a key, as `asked` sees it.
    pub fn keeper_of(&self, key: &str, asked: usize) -> Option<usize> {
        let slot = self.slot_of(key);
        let map = self.map(asked);
        let entry = map.iter().find(|entry| entry.slots.iter().any(|range| range.contains(&slot)))?;
        self.place(entry.port)
    }

    pub fn slot_of(&self, key: &str) -> u16 {
        let ask = |node| self.cli(node, &["CLUSTER", "KEYSLOT", key]).ok()?.trim().parse().ok();
        (0..self.nodes.len()).find_map(ask).expect("a node runs and gives a number")
    }

    /// Waits until every node that runs knows a primary for each slot, each with the same map, and
    /// every replica has its copy.
    pub fn await_whole(&self) -> Result<(), StartError> {
        let running = |node: &usize| self.cli(*node, &["PING"]).is_ok();
        agreed("the Redis Cluster", "map that all share", || {
            let maps: Vec<Option<String>> =
                (0..self.nodes.len()).filter(running).map(|n| self.shown(n)).collect();
            !maps.is_empty() && maps[0].is_some() && maps.windows(2).all(|pair| pair[0] == pair[1])
        })
    }

    /// Who keeps what as a node sees it; `None` where it is not well.
    fn shown(&self, node: usize) -> Option<String> {
        let info = self.cli(node, &["CLUSTER", "INFO"]).ok()?;
        let is_well = info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
        let mut map: Vec<_> = self.map(node).into_iter().filter(|e| !e.slots.is_empty()).collect();
        map.sort_by_key(|entry| entry.port);
        let shown: Vec<_> =
            map.iter().map(|e| format!("{} {} {:?}", e.port, e.is_primary, e.slots)).collect();
        let replication = self.cli(node, &["INFO", "replication"]).ok()?;
        let is_used = replication.contains("role:master") || replication.contains("master_link_status:up");
        (is_well && is_used).then(|| shown.join("\n"))
    }

    /// Moves `slots` slots with their keys from one primary to another.
    pub fn reshard(&self, from: usize, to: usize, slots: u16) -> std::io::Result<String> {
        // redis-cli refuses while word of an earlier move is still on its way to some node.
        self.await_whole().map_err(std::io::Error::other)?;
        let (from_id, to_id, slots) = (self.id(from), self.id(to), slots.to_string());
        let address = format!("127.0.0.1:{}", self.nodes[from].port());
        let words = ["--cluster", "reshard", &address, "--cluster-from", &from_id, "--cluster-to", &to_id];
        self.cli(from, &[&words[..], &["--cluster-slots", &slots, "--cluster-yes"]].concat())
    }

    /// Begins to move one slot: keys that are not there yet are asked for at its new server.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> std::io::Result<()> {
        let (from_id, to_id, slot) = (self.id(from), self.id(to), slot.to_string());
        self.cli(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])?;
        self.cli(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).map(drop)
    }

    /// Moves what keys the slot has, and the slot.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) -> std::io::Result<()> {
        let (to_id, slot) = (self.id(to), slot.to_string());
        let keys = self.cli(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])?;
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let port = self.nodes[to].port().to_string();
            self.cli(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"])?;
        }
        for node in [to, from] {
            self.cli(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id])?;
        }
        Ok(())
    }

    fn id(&self, node: usize) -> String {
        self.cli(node, &["CLUSTER", "MYID"]).unwrap_or_default().trim().to_owned()
    }

    fn map(&self, asked: usize) -> Vec<Entry> {
        entries(&self.cli(asked, &["CLUSTER", "NODES"]).unwrap_or_default())
    }

    fn place(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port() == port)
    }
}

/// `id host:port@bus flags primary ping pong epoch state slots…`, one a line.
fn entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words.get(1)?.split('@').next()?.rsplit(':').next()?.parse().ok()?;
        let slots = words.get(8..).unwrap_or_default().iter().filter(|word| !word.starts_with('['));
        let range = |word: &&str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        let is_primary = words.get(2)?.contains("master");
        Some(Entry { port, is_primary, slots: slots.filter_map(range).collect() })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_spreads_keys_and_replaces_a_killed_primary() {
        let mut cluster = RedisCluster::start().unwrap();
        assert_eq!(cluster.primaries(0).len(), 3);
        let keeper = cluster.keeper_of("{acme}", 0).unwrap();
        let asked = (0..6).find(|node| *node != keeper).unwrap();
        cluster.node_mut(keeper).kill();
        agreed("the Cluster", "successor", || cluster.keeper_of("{acme}", asked) != Some(keeper)).unwrap();
        cluster.await_whole().unwrap();
        let successor = cluster.keeper_of("{acme}", asked).unwrap();
        // What its predecessor was told may not have come to it in time.
        assert!(cluster.cli(successor, &["SET", "{acme}", "1"]).unwrap().contains("OK"));
    }
}
