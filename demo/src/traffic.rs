//! What is sent, and when.

use std::time::Duration;

use weir_testbed::fastrand::Rng;
use weir_testbed::load::{Call, Plan, Shot};

use crate::clients::{Client, PARTNER};
use crate::service::{RETRIED, ROUTES};

/// The retry loop: 200,000 requests a minute.
pub const STORM_PER_S: f64 = 200_000.0 / 60.0;
const STORM_CONNECTIONS: usize = 256;
const CONNECTIONS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients' own traffic in each of `phases` phases of `length`: the same calls at the same
/// moments in each, so that the phases can be compared.
pub fn everyday(clients: &[Client], ports: [u16; 2], phases: u32, length: Duration) -> Plan {
    let shots = shots(clients, ports);
    let phase = one_phase(clients, length);
    let calls = (0..phases)
        .flat_map(|n| phase.iter().map(move |call| Call { at: call.at + length * n, ..*call }))
        .collect();
    Plan { shots, calls, connections: CONNECTIONS, patience: PATIENCE }
}

/// The partner's retry loop, evenly over both gateways.
pub fn storm(clients: &[Client], ports: [u16; 2], length: Duration) -> Plan {
    let route = ROUTES.iter().find(|r| r.name == RETRIED).expect("the retried route exists");
    let key = &clients[PARTNER].key;
    let shots = ports.map(|port| Shot::new(route.method, route.path, key, port)).to_vec();
    let mut plan = Plan::even(shots, STORM_PER_S, length, STORM_CONNECTIONS);
    for call in &mut plan.calls {
        call.client = PARTNER as u32;
    }
    plan
}

/// Shot `(client * routes + route) * 2 + gateway`.
fn shots(clients: &[Client], ports: [u16; 2]) -> Vec<Shot> {
    let mut shots = Vec::with_capacity(clients.len() * ROUTES.len() * ports.len());
    for client in clients {
        for route in &ROUTES {
            for port in ports {
                shots.push(Shot::new(route.method, route.path, &client.key, port));
            }
        }
    }
    shots
}

/// Calls of each client at random moments (a Poisson process of its rate).
fn one_phase(clients: &[Client], length: Duration) -> Vec<Call> {
    let mut rng = Rng::with_seed(20_261_124);
    let mut calls = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let mut at = 0.0;
        loop {
            at -= (1.0 - rng.f64()).ln() / client.rate_per_s;
            if at >= length.as_secs_f64() {
                break;
            }
            let shot = (index * ROUTES.len() + pick(&mut rng)) * 2 + rng.usize(..2);
            let at = Duration::from_secs_f64(at);
            calls.push(Call { at, client: index as u32, shot: shot as u32 });
        }
    }
    calls.sort_by_key(|call| call.at);
    calls
}

/// An endpoint, by weight.
fn pick(rng: &mut Rng) -> usize {
    let total: f64 = ROUTES.iter().map(|route| route.weight).sum();
    let mut left = rng.f64() * total;
    ROUTES
        .iter()
        .position(|route| {
            left -= route.weight;
            left < 0.0
        })
        .unwrap_or(ROUTES.len() - 1)
}

/// How many calls of a plan are this client's.
pub fn calls_of(plan: &Plan, client: usize) -> usize {
    plan.calls.iter().filter(|call| call.client as usize == client).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{self, RATE_PER_S};

    #[test]
    fn every_phase_sends_the_same_at_the_expected_rate() {
        let (all, length) = (clients::all(), Duration::from_secs(20));
        let plan = everyday(&all, [1, 2], 3, length);
        let third = plan.calls.len() / 3;
        assert!((third as f64 / 20.0 / RATE_PER_S - 1.0).abs() < 0.05, "{third}");
        for (first, last) in plan.calls[..third].iter().zip(&plan.calls[2 * third..]) {
            assert_eq!((first.at + 2 * length, first.shot), (last.at, last.shot));
        }
        assert!(plan.calls.is_sorted_by_key(|call| call.at));
    }

    #[test]
    fn a_shot_carries_its_clients_key_to_its_gateway() {
        let all = clients::all();
        let plan = everyday(&all, [1_111, 2_222], 1, Duration::from_secs(5));
        for call in &plan.calls {
            let shot = &plan.shots[call.shot as usize];
            let key = format!("X-Api-Key: {}\r\n", all[call.client as usize].key);
            assert!(String::from_utf8_lossy(&shot.bytes).contains(&key));
            assert_eq!(shot.port, [1_111, 2_222][call.shot as usize % 2]);
        }
    }

    #[test]
    fn the_storm_is_200_000_a_minute() {
        let plan = storm(&clients::all(), [1, 2], Duration::from_secs(60));
        assert_eq!(plan.calls.len(), 200_000);
        assert_eq!(calls_of(&plan, PARTNER), 200_000);
    }
}
