//! The quota, met over the wire.

use std::{num::NonZeroU32, time::Duration};

use face_enroll::sandbox::{Action, Sandbox, Settings, Window};
use futures::future::join_all;

use super::client::{Answer, Ask};

async fn open(qps: u32, window: Window) -> Sandbox {
    let retry_after = Some(Duration::from_millis(250));
    Sandbox::start(Settings { qps: NonZeroU32::new(qps), window, retry_after, ..Settings::default() }).await.unwrap()
}

async fn burst(sandbox: &Sandbox, calls: usize) -> Vec<Answer> {
    let asks: Vec<Ask> = (0..calls).map(|n| Ask::add(sandbox, &format!("u{n}"))).collect();
    join_all(asks.iter().map(|ask| ask.answer(sandbox))).await
}

#[tokio::test]
async fn burst_gets_the_quota_and_no_more() {
    let sandbox = open(5, Window::Sliding).await;
    let answers = burst(&sandbox, 20).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    for answer in &refused {
        assert_eq!((answer.status, answer.code()), (403, "Throttling.Api".to_owned()));
        assert_eq!(answer.headers["x-acs-retry-after"], "250");
    }
    // A machine so slow that the burst takes more than a second lets more through; never more in any one second.
    assert_eq!(sandbox.max_accepted_in_any_second(Action::AddFaceRecord), 5);
    assert_eq!(sandbox.records().len(), 20 - refused.len());
    assert_eq!(sandbox.journal().iter().filter(|arrival| arrival.is_throttled()).count(), refused.len());
    assert!(sandbox.max_calls_in_any_second(Action::AddFaceRecord) > 5);
}

#[tokio::test]
async fn fixed_window_holds_in_each_second_of_its_clock() {
    let sandbox = open(5, Window::Fixed).await;
    burst(&sandbox, 20).await;
    let mut by_second = std::collections::BTreeMap::new();
    for arrival in sandbox.journal().iter().filter(|arrival| arrival.admitted) {
        *by_second.entry(arrival.at.as_secs()).or_insert(0) += 1;
    }
    assert!(by_second.values().all(|&calls| calls <= 5), "{by_second:?}");
    assert!(sandbox.max_accepted_in_any_second(Action::AddFaceRecord) <= 10);
}

#[tokio::test]
async fn each_action_has_a_quota_of_its_own() {
    let sandbox = open(1, Window::Sliding).await;
    assert_eq!(Ask::add(&sandbox, "u1").answer(&sandbox).await.status, 200);
    assert_eq!(Ask::find(&sandbox, "u1").answer(&sandbox).await.status, 200);
    assert_eq!(
        (
            sandbox.max_accepted_in_any_second(Action::AddFaceRecord),
            sandbox.max_accepted_in_any_second(Action::QueryFaceRecord)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn no_quota_refuses_nothing() {
    let sandbox = open(0, Window::Sliding).await;
    assert!(burst(&sandbox, 20).await.iter().all(|answer| answer.status == 200));
    sandbox.set_qps(NonZeroU32::new(1));
    let refused = burst(&sandbox, 20).await.iter().filter(|answer| answer.status == 403).count();
    assert!(refused > 0);
}
