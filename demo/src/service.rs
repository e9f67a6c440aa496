//! The API that is sold: twelve endpoints with the times they take and how often they are called.

use std::time::Duration;

use weir_testbed::backend::{Behaviour, Endpoint};

/// One endpoint as the policy names it and the backend serves it.
pub struct Route {
    /// Name in limits, records and on pages.
    pub name: &'static str,
    pub method: &'static str,
    /// As in the policy's `[routes]`.
    pub pattern: &'static str,
    /// A path that fits the pattern.
    pub path: &'static str,
    pub median_ms: f64,
    pub bytes: usize,
    /// Calls, relative to the other endpoints.
    pub weight: f64,
}

/// Standard deviation of the logarithm of a service time.
const SPREAD: f64 = 0.35;
/// Share of calls that fail in a healthy service.
const ERRORS: f64 = 0.005;
/// Requests that the backend works on at a time. At some 10 ms each that is about 1,600 a second:
/// plenty for everyone, and less than half of what the retry loop asks for.
const CAPACITY: usize = 16;
const QUEUE: usize = 220;

/// The endpoint that the retry loop calls.
pub const RETRIED: &str = "quote";

#[rustfmt::skip]
pub const ROUTES: [Route; 12] = [
    Route { name: "order",     method: "GET",  pattern: "/orders/{id}",    path: "/orders/4711",    median_ms:  8.0, bytes: 1_800, weight: 20.0 },
    Route { name: "orders",    method: "GET",  pattern: "/orders",         path: "/orders",         median_ms: 14.0, bytes: 9_000, weight: 10.0 },
    Route { name: "new-order", method: "POST", pattern: "/orders",         path: "/orders",         median_ms: 18.0, bytes:   400, weight:  8.0 },
    Route { name: "customer",  method: "GET",  pattern: "/customers/{id}", path: "/customers/1907", median_ms:  6.0, bytes: 1_200, weight: 12.0 },
    Route { name: "products",  method: "GET",  pattern: "/products",       path: "/products",       median_ms: 12.0, bytes: 14_000, weight: 10.0 },
    Route { name: "product",   method: "GET",  pattern: "/products/{id}",  path: "/products/77",    median_ms:  5.0, bytes: 2_400, weight: 16.0 },
    Route { name: "search",    method: "GET",  pattern: "/search",         path: "/search",         median_ms: 24.0, bytes: 6_000, weight:  5.0 },
    Route { name: "quote",     method: "POST", pattern: "/quotes",         path: "/quotes",         median_ms: 10.0, bytes:   600, weight:  6.0 },
    Route { name: "stock",     method: "GET",  pattern: "/stock/{sku}",    path: "/stock/A-12",     median_ms:  4.0, bytes:   300, weight:  8.0 },
    Route { name: "shipment",  method: "GET",  pattern: "/shipments/{id}", path: "/shipments/38",   median_ms:  9.0, bytes:   900, weight:  3.0 },
    Route { name: "token",     method: "POST", pattern: "/token",          path: "/token",          median_ms:  3.0, bytes:   700, weight:  1.5 },
    Route { name: "report",    method: "GET",  pattern: "/reports/daily",  path: "/reports/daily",  median_ms: 60.0, bytes: 30_000, weight: 0.5 },
];

/// How the backend behaves. Longer paths come first, since the first that fits counts.
pub fn behaviour(seed: u64) -> Behaviour {
    let mut routes: Vec<&Route> = ROUTES.iter().collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
    let endpoints = routes
        .into_iter()
        .map(|route| Endpoint {
            path: route.path.to_owned(),
            median: Duration::from_secs_f64(route.median_ms / 1000.0),
            spread: SPREAD,
            errors: ERRORS,
            bytes: route.bytes,
        })
        .collect();
    Behaviour { endpoints, capacity: CAPACITY, queue: QUEUE, seed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_has_room_for_the_clients_but_not_for_the_retry_loop() {
        let weights: f64 = ROUTES.iter().map(|r| r.weight).sum();
        let mean_ms: f64 = ROUTES.iter().map(|r| r.weight * r.median_ms).sum::<f64>() / weights;
        let calm_per_s = CAPACITY as f64 * 1000.0 / mean_ms;
        assert!(calm_per_s > 3.0 * crate::clients::RATE_PER_S, "{calm_per_s}");
        let retried = ROUTES.iter().find(|r| r.name == RETRIED).unwrap();
        let storm_per_s = CAPACITY as f64 * 1000.0 / retried.median_ms;
        assert!(storm_per_s < crate::traffic::STORM_PER_S / 2.0, "{storm_per_s}");
    }
}
