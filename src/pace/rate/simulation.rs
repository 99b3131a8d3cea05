//! Small simulation in which a rate has to prove itself: a sliding second of accepted calls, 200 ms there and back, jitter,
//! throttling that has nothing to do with us, neighbours. Simulated, seeded; the bands are asserted.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{AdaptiveRate, QuotaUse};
use crate::pace::{Qps, gate::QUOTA_SHARE};

const SEEDS: u64 = 5;

struct Simulation {
    /// Accepted calls in any second, ours and production's.
    quota: usize,
    /// Share of our calls that is throttled whatever we do.
    at_random: f64,
    /// Most milliseconds that the way to the service adds.
    jitter_ms: f64,
    /// Production's calls a second, at a second of the simulation.
    production: fn(f64) -> f64,
}

const NOBODY: fn(f64) -> f64 = |_| 0.0;

impl Default for Simulation {
    fn default() -> Self {
        Self { quota: 50, at_random: 0.0, jitter_ms: 0.0, production: NOBODY }
    }
}

#[derive(Debug, Default)]
struct Seen {
    accepted: u32,
    throttled: u32,
    seconds: f64,
    production: u32,
    production_throttled: u32,
}

impl Seen {
    fn per_second(&self) -> f64 {
        f64::from(self.accepted) / self.seconds
    }
    fn throttled_share(&self) -> f64 {
        f64::from(self.throttled) / f64::from(self.accepted + self.throttled)
    }
    fn harm(&self) -> f64 {
        f64::from(self.production_throttled) / f64::from(self.production.max(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SimEvent {
    Reply(bool),
    CallRecord,
    Production,
    Send,
}

/// Until so many calls are accepted, or so many seconds have passed.
fn simulate(world: &Simulation, quota_use: QuotaUse, until: (u32, f64), seed: u64) -> Seen {
    const HALF_WAY_MS: f64 = 100.0;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rate = AdaptiveRate::new(quota_use, Qps::new(50.0 * QUOTA_SHARE).unwrap(), None);
    let (mut seen, zero) = (Seen::default(), Instant::now());
    let mut accepted: VecDeque<f64> = VecDeque::new();
    let mut events = BinaryHeap::new();
    let at = |ms: f64, what: SimEvent| Reverse(((ms * 1_000.0) as u64, what));
    let mut next_send = 0.0;
    events.push(at(0.0, SimEvent::Send));
    events.push(at(0.0, SimEvent::Production));
    while let Some(Reverse((micros, what))) = events.pop() {
        let ms = micros as f64 / 1_000.0;
        seen.seconds = ms / 1_000.0;
        if seen.accepted >= until.0 || seen.seconds >= until.1 {
            break;
        }
        while accepted.front().is_some_and(|&then| then <= ms - 1_000.0) {
            accepted.pop_front();
        }
        let has_room = accepted.len() < world.quota;
        match what {
            SimEvent::Send if ms + 0.001 < next_send => events.push(at(next_send, SimEvent::Send)),
            SimEvent::Send => {
                events.push(at(ms + HALF_WAY_MS + random.f64() * world.jitter_ms, SimEvent::CallRecord));
                next_send = ms + rate.gap().as_secs_f64() * 1_000.0;
                events.push(at(next_send, SimEvent::Send));
            }
            SimEvent::CallRecord => {
                let is_throttled = !has_room || random.f64() < world.at_random;
                if is_throttled {
                    seen.throttled += 1;
                } else {
                    seen.accepted += 1;
                    accepted.push_back(ms);
                }
                events.push(at(ms + HALF_WAY_MS, SimEvent::Reply(is_throttled)));
            }
            SimEvent::Reply(throttled) => {
                let before = rate.gap();
                rate.observe(throttled, zero + Duration::from_micros(micros));
                // As the gate does it: the slot that is being waited for moves with a falling rate.
                next_send += rate.gap().saturating_sub(before).as_secs_f64() * 1_000.0;
            }
            SimEvent::Production => {
                let per_second = (world.production)(seen.seconds);
                if per_second > 0.0 {
                    seen.production += 1;
                    if has_room { accepted.push_back(ms) } else { seen.production_throttled += 1 }
                }
                // Arrivals at random: exponential gaps.
                let gap = if per_second > 0.0 { -random.f64().max(1e-9).ln() / per_second } else { 1.0 };
                events.push(at(ms + gap * 1_000.0, SimEvent::Production));
            }
        }
    }
    seen
}

/// The mean over the seeds of what is measured.
fn mean(world: &Simulation, quota_use: QuotaUse, until: (u32, f64), measure: fn(&Seen) -> f64) -> f64 {
    (0..SEEDS).map(|seed| measure(&simulate(world, quota_use, until, seed))).sum::<f64>() / SEEDS as f64
}

const ROWS_450: (u32, f64) = (450, 3_600.0);
const ROWS_900: (u32, f64) = (900, 3_600.0);
const TEN_MINUTES: (u32, f64) = (u32::MAX, 600.0);
use QuotaUse::{Dedicated, Shared};

#[test]
fn alone_it_uses_98_percent_of_the_quota_and_nothing_is_refused() {
    let alone = Simulation::default();
    assert!(mean(&alone, Dedicated, TEN_MINUTES, Seen::per_second) >= 48.95);
    assert_eq!(mean(&alone, Dedicated, TEN_MINUTES, Seen::throttled_share), 0.0);
    assert!(mean(&alone, Shared, TEN_MINUTES, Seen::per_second) >= 48.0);
}

#[test]
fn jitter_of_40_ms_costs_at_most_4_percent() {
    let jitter = Simulation { jitter_ms: 40.0, ..Simulation::default() };
    let (rate, refused) = (
        mean(&jitter, Dedicated, TEN_MINUTES, Seen::per_second),
        mean(&jitter, Dedicated, TEN_MINUTES, Seen::throttled_share),
    );
    assert!(rate >= 47.5, "{rate}");
    assert!(refused <= 0.005, "{refused}");
}

#[test]
fn true_quota_of_10_is_found_from_50_within_450_rows() {
    let ten = Simulation { quota: 10, ..Simulation::default() };
    let (rate, refused) =
        (mean(&ten, Dedicated, ROWS_450, Seen::per_second), mean(&ten, Dedicated, ROWS_450, Seen::throttled_share));
    assert!(rate >= 8.0, "{rate}");
    assert!(refused <= 0.10, "{refused}");
}

#[test]
fn true_quota_of_3_is_found_from_50_within_450_rows() {
    let three = Simulation { quota: 3, ..Simulation::default() };
    let (rate, refused) =
        (mean(&three, Dedicated, ROWS_450, Seen::per_second), mean(&three, Dedicated, ROWS_450, Seen::throttled_share));
    assert!(rate >= 2.4, "{rate}");
    // 50 of them before the first answers can tell.
    assert!(refused <= 0.21, "{refused}");
}

#[test]
fn constant_5_percent_throttling_does_not_collapse_rate() {
    let residual = Simulation { at_random: 0.05, ..Simulation::default() };
    let soon = mean(&residual, Dedicated, ROWS_900, Seen::per_second);
    let later = mean(&residual, Dedicated, TEN_MINUTES, Seen::per_second);
    assert!(soon >= 20.0, "{soon}");
    assert!(later >= 38.0, "{later}");
}

#[test]
fn throttling_of_1_percent_at_any_rate_costs_little() {
    let residual = Simulation { at_random: 0.01, ..Simulation::default() };
    let rate = mean(&residual, Dedicated, TEN_MINUTES, Seen::per_second);
    assert!(rate >= 40.0, "{rate}");
}

#[test]
fn neighbours_are_spared_where_the_quota_is_shared() {
    // Four phases of ten minutes: quiet, busy, very busy, nearly quiet.
    let production = |second: f64| [0.0, 20.0, 40.0, 10.0][(second / 600.0) as usize % 4];
    let world = Simulation { production, ..Simulation::default() };
    let all = (u32::MAX, 2_400.0);
    let (ours, harm) = (mean(&world, Shared, all, Seen::per_second), mean(&world, Shared, all, Seen::harm));
    let dedicated = mean(&world, Dedicated, all, Seen::harm);
    assert!(ours >= 15.0, "{ours}");
    assert!(harm <= 0.025, "{harm}");
    assert!(dedicated > 1.5 * harm, "{dedicated} against {harm}: then there need not be two");
}
