//! Several hosts with clocks and networks of their own take slots from one row: no second holds more than the quota.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    FREE_ROUND_TRIP, LEAD, SHARE,
    clock::{Sample, ServerClock},
};

const QUOTA: usize = 50;
/// Latest use of a slot (`pace::shared_slots`).
const MAX_LATENESS_US: u64 = 5_000;

/// A host, and what the network to the database takes in each direction, in microseconds.
#[derive(Debug, Clone)]
struct Host {
    there_us: (u64, u64),
    back_us: (u64, u64),
}

fn host() -> impl Strategy<Value = Host> {
    let direction = || (100_u64..12_000, 0_u64..8_000).prop_map(|(least, more)| (least, least + more));
    (direction(), direction()).prop_map(|(there_us, back_us)| Host { there_us, back_us })
}

/// Times of all calls in microseconds. Hosts ask in turn, as often as they like, and use slots as late as they may.
fn calls(hosts: &[Host], mut random: fastrand::Rng, blocks: usize) -> Vec<u64> {
    const EPOCH: Duration = Duration::from_secs(1_800_000_000);
    let zero = Instant::now();
    let mut clocks: Vec<ServerClock> = hosts.iter().map(|_| ServerClock::default()).collect();
    let shortest = |host: &Host| Duration::from_micros(host.there_us.0 + host.back_us.0);
    let margin = hosts.iter().map(|host| shortest(host).saturating_sub(FREE_ROUND_TRIP)).max().unwrap();
    let gap = Duration::from_secs_f64((1.0 / SHARE + margin.as_secs_f64()) / QUOTA as f64);
    let (mut next_slot, mut now_us, mut sent) = (EPOCH, 0_u64, Vec::new());
    for _ in 0..blocks {
        let at = random.usize(..hosts.len());
        let (host, clock) = (&hosts[at], &mut clocks[at]);
        let asked_us = now_us + random.u64(..40_000);
        let there_us = random.u64(host.there_us.0..=host.there_us.1);
        let back_us = random.u64(host.back_us.0..=host.back_us.1);
        let server = EPOCH + Duration::from_micros(asked_us + there_us);
        let count = random.u32(1..=5);
        let lead = clock.round_trip() + LEAD;
        let first = next_slot.max(server + lead);
        next_slot = first + gap * count;
        let sent_at = zero + Duration::from_micros(asked_us);
        let received = sent_at + Duration::from_micros(there_us + back_us);
        if clock.add(Sample { sent: sent_at, received, server }).is_err() {
            panic!("a step was seen where there was none");
        }
        for n in 0..count {
            let slot = clock.local(first + gap * n).unwrap();
            let used = slot.max(received) + Duration::from_micros(random.u64(..=MAX_LATENESS_US));
            if used <= slot + Duration::from_micros(MAX_LATENESS_US) {
                sent.push(u64::try_from((used - zero).as_micros()).unwrap());
            }
        }
        now_us = asked_us;
    }
    sent.sort_unstable();
    sent
}

fn worst_second(calls: &[u64]) -> usize {
    (0..calls.len())
        .map(|from| calls[from..].iter().take_while(|&&at| at < calls[from] + 1_000_000).count())
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_second_of_several_hosts_holds_more_than_the_quota(
        hosts in proptest::collection::vec(host(), 1..6),
        seed: u64,
    ) {
        let calls = calls(&hosts, fastrand::Rng::with_seed(seed), 150);
        prop_assert!(worst_second(&calls) <= QUOTA, "{} calls in a second", worst_second(&calls));
    }
}

#[test]
fn near_hosts_use_98_percent_of_the_quota() {
    let near = Host { there_us: (150, 400), back_us: (150, 400) };
    let calls = calls(&[near.clone(), near.clone(), near], fastrand::Rng::with_seed(1), 2_000);
    let seconds = (calls[calls.len() - 1] - calls[0]) as f64 / 1e6;
    let rate = (calls.len() - 1) as f64 / seconds;
    assert!(rate >= 0.98 * QUOTA as f64, "{rate}");
}
