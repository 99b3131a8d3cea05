//! Seeded simulation of the adaptive rate against a service with a sliding one-second quota, a round trip of 200 ms,
//! jitter, random throttling and other traffic. The tests assert bands for the results.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque, time::Duration};

use super::{AdaptiveRate, QuotaUse};
use crate::pace::{Qps, gate::QUOTA_SHARE};

const SEEDS: u64 = 5;

struct Simulation {
    /// Accepted calls in any second, ours and production's together.
    quota: usize,
    /// Share of our calls that is throttled at any rate.
    random_throttling: f64,
    /// Largest extra delay of a call on the way to the service, in milliseconds.
    max_jitter_ms: f64,
    /// Production's calls a second at a given second of the simulation.
    production: fn(f64) -> f64,
}

const NO_PRODUCTION: fn(f64) -> f64 = |_| 0.0;

impl Default for Simulation {
    fn default() -> Self {
        Self { quota: 50, random_throttling: 0.0, max_jitter_ms: 0.0, production: NO_PRODUCTION }
    }
}

#[derive(Debug, Default)]
struct SimResult {
    accepted: u32,
    throttled: u32,
    seconds: f64,
    production: u32,
    production_throttled: u32,
}

impl SimResult {
    fn per_second(&self) -> f64 {
        f64::from(self.accepted) / self.seconds
    }
    fn throttled_share(&self) -> f64 {
        f64::from(self.throttled) / f64::from(self.accepted + self.throttled)
    }
    fn production_throttled_share(&self) -> f64 {
        f64::from(self.production_throttled) / f64::from(self.production.max(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SimEvent {
    Response { throttled: bool },
    Arrival,
    Production,
    Send,
}

/// Runs until `max_accepted` calls are accepted or `max_seconds` have passed.
fn simulate(
    simulation: &Simulation,
    quota_use: QuotaUse,
    (max_accepted, max_seconds): (u32, f64),
    seed: u64,
) -> SimResult {
    const ONE_WAY_MS: f64 = 100.0;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rate = AdaptiveRate::new(quota_use, Qps::new(50.0 * QUOTA_SHARE).unwrap(), None);
    let (mut result, zero) = (SimResult::default(), Duration::ZERO);
    let mut accepted: VecDeque<f64> = VecDeque::new();
    let mut events = BinaryHeap::new();
    let at = |ms: f64, event: SimEvent| Reverse(((ms * 1_000.0) as u64, event));
    let mut next_send = 0.0;
    events.push(at(0.0, SimEvent::Send));
    events.push(at(0.0, SimEvent::Production));
    while let Some(Reverse((micros, event))) = events.pop() {
        let ms = micros as f64 / 1_000.0;
        result.seconds = ms / 1_000.0;
        if result.accepted >= max_accepted || result.seconds >= max_seconds {
            break;
        }
        while accepted.front().is_some_and(|&then| then <= ms - 1_000.0) {
            accepted.pop_front();
        }
        let is_below_quota = accepted.len() < simulation.quota;
        match event {
            SimEvent::Send if ms + 0.001 < next_send => events.push(at(next_send, SimEvent::Send)),
            SimEvent::Send => {
                events.push(at(ms + ONE_WAY_MS + random.f64() * simulation.max_jitter_ms, SimEvent::Arrival));
                next_send = ms + rate.gap().as_secs_f64() * 1_000.0;
                events.push(at(next_send, SimEvent::Send));
            }
            SimEvent::Arrival => {
                let throttled = !is_below_quota || random.f64() < simulation.random_throttling;
                if throttled {
                    result.throttled += 1;
                } else {
                    result.accepted += 1;
                    accepted.push_back(ms);
                }
                events.push(at(ms + ONE_WAY_MS, SimEvent::Response { throttled }));
            }
            SimEvent::Response { throttled } => {
                let before = rate.gap();
                rate.observe(throttled, zero + Duration::from_micros(micros));
                // As in the gate, a falling rate delays the next slot.
                next_send += rate.gap().saturating_sub(before).as_secs_f64() * 1_000.0;
            }
            SimEvent::Production => {
                let per_second = (simulation.production)(result.seconds);
                if per_second > 0.0 {
                    result.production += 1;
                    if is_below_quota { accepted.push_back(ms) } else { result.production_throttled += 1 }
                }
                // Random arrivals with exponential gaps.
                let gap = if per_second > 0.0 { -random.f64().max(1e-9).ln() / per_second } else { 1.0 };
                events.push(at(ms + gap * 1_000.0, SimEvent::Production));
            }
        }
    }
    result
}

/// Mean of a measure over all seeds.
fn mean(simulation: &Simulation, quota_use: QuotaUse, until: (u32, f64), measure: fn(&SimResult) -> f64) -> f64 {
    (0..SEEDS).map(|seed| measure(&simulate(simulation, quota_use, until, seed))).sum::<f64>() / SEEDS as f64
}

const ROWS_450: (u32, f64) = (450, 3_600.0);
const ROWS_900: (u32, f64) = (900, 3_600.0);
const TEN_MINUTES: (u32, f64) = (u32::MAX, 600.0);
use QuotaUse::{Dedicated, Shared};

#[test]
fn steady_rate_uses_98_percent_without_throttling() {
    let alone = Simulation::default();
    assert!(mean(&alone, Dedicated, TEN_MINUTES, SimResult::per_second) >= 48.95);
    assert_eq!(mean(&alone, Dedicated, TEN_MINUTES, SimResult::throttled_share), 0.0);
    assert!(mean(&alone, Shared, TEN_MINUTES, SimResult::per_second) >= 48.0);
}

#[test]
fn jitter_of_40_ms_costs_at_most_4_percent() {
    let jitter = Simulation { max_jitter_ms: 40.0, ..Simulation::default() };
    let (rate, refused) = (
        mean(&jitter, Dedicated, TEN_MINUTES, SimResult::per_second),
        mean(&jitter, Dedicated, TEN_MINUTES, SimResult::throttled_share),
    );
    assert!(rate >= 47.5, "{rate}");
    assert!(refused <= 0.005, "{refused}");
}

#[test]
fn true_quota_of_10_is_found_within_450_rows() {
    let ten = Simulation { quota: 10, ..Simulation::default() };
    let (rate, refused) = (
        mean(&ten, Dedicated, ROWS_450, SimResult::per_second),
        mean(&ten, Dedicated, ROWS_450, SimResult::throttled_share),
    );
    assert!(rate >= 8.0, "{rate}");
    assert!(refused <= 0.10, "{refused}");
}

#[test]
fn true_quota_of_3_is_found_within_450_rows() {
    let three = Simulation { quota: 3, ..Simulation::default() };
    let (rate, refused) = (
        mean(&three, Dedicated, ROWS_450, SimResult::per_second),
        mean(&three, Dedicated, ROWS_450, SimResult::throttled_share),
    );
    assert!(rate >= 2.4, "{rate}");
    // 50 calls are sent before the first response arrives.
    assert!(refused <= 0.21, "{refused}");
}

#[test]
fn constant_5_percent_throttling_does_not_collapse_rate() {
    let residual = Simulation { random_throttling: 0.05, ..Simulation::default() };
    let soon = mean(&residual, Dedicated, ROWS_900, SimResult::per_second);
    let later = mean(&residual, Dedicated, TEN_MINUTES, SimResult::per_second);
    assert!(soon >= 20.0, "{soon}");
    assert!(later >= 38.0, "{later}");
}

#[test]
fn throttling_of_1_percent_at_any_rate_costs_little() {
    let residual = Simulation { random_throttling: 0.01, ..Simulation::default() };
    let rate = mean(&residual, Dedicated, TEN_MINUTES, SimResult::per_second);
    assert!(rate >= 40.0, "{rate}");
}

#[test]
fn shared_rate_spares_other_traffic() {
    // Four phases of ten minutes: quiet, busy, very busy, nearly quiet.
    let production = |second: f64| [0.0, 20.0, 40.0, 10.0][(second / 600.0) as usize % 4];
    let simulation = Simulation { production, ..Simulation::default() };
    let all = (u32::MAX, 2_400.0);
    let (ours, harm) = (
        mean(&simulation, Shared, all, SimResult::per_second),
        mean(&simulation, Shared, all, SimResult::production_throttled_share),
    );
    let dedicated = mean(&simulation, Dedicated, all, SimResult::production_throttled_share);
    assert!(ours >= 15.0, "{ours}");
    assert!(harm <= 0.025, "{harm}");
    assert!(dedicated > 1.5 * harm, "dedicated {dedicated}, shared {harm}: one rule would be enough");
}
