//! The quota as seen by clients.

use std::{num::NonZeroU32, time::Duration};

use face_enroll::sandbox::{Action, Sandbox, Settings, Window};
use futures_util::future::join_all;

use super::client::{Request, Response};

async fn open(qps: u32, window: Window) -> Sandbox {
    let retry_after = Some(Duration::from_millis(250));
    Sandbox::start(Settings { qps: NonZeroU32::new(qps), window, retry_after, ..Settings::default() }).await.unwrap()
}

async fn burst(sandbox: &Sandbox, calls: usize) -> Vec<Response> {
    let requests: Vec<Request> = (0..calls).map(|n| Request::add(sandbox, &format!("u{n}"))).collect();
    join_all(requests.iter().map(|request| request.send(sandbox))).await
}

#[tokio::test]
async fn burst_is_limited_to_the_quota() {
    let sandbox = open(5, Window::Sliding).await;
    let responses = burst(&sandbox, 20).await;
    let throttled: Vec<&Response> = responses.iter().filter(|response| response.status != 200).collect();
    for response in &throttled {
        assert_eq!((response.status, response.code()), (403, "Throttling.Api".to_owned()));
        assert_eq!(response.headers["x-acs-retry-after"], "250");
    }
    // If the burst takes more than a second on a slow machine, more calls pass, but never more in one second.
    assert!(sandbox.max_accepted_in_any_second(Action::AddFaceRecord) <= 5);
    assert_eq!(sandbox.records().len(), 20 - throttled.len());
    assert_eq!(sandbox.journal().iter().filter(|call| call.is_throttled()).count(), throttled.len());
}

#[tokio::test]
async fn fixed_window_limits_each_clock_second() {
    let sandbox = open(5, Window::Fixed).await;
    burst(&sandbox, 20).await;
    let mut by_second = std::collections::BTreeMap::new();
    for call in sandbox.journal().iter().filter(|call| call.admitted) {
        *by_second.entry(call.at.as_secs()).or_insert(0) += 1;
    }
    assert!(by_second.values().all(|&calls| calls <= 5), "{by_second:?}");
    assert!(sandbox.max_accepted_in_any_second(Action::AddFaceRecord) <= 10);
}

#[tokio::test]
async fn each_action_has_its_own_quota() {
    let sandbox = open(1, Window::Sliding).await;
    assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.status, 200);
    assert_eq!(Request::find(&sandbox, "u1").send(&sandbox).await.status, 200);
    assert_eq!(
        (
            sandbox.max_accepted_in_any_second(Action::AddFaceRecord),
            sandbox.max_accepted_in_any_second(Action::QueryFaceRecord)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn no_quota_admits_every_call() {
    let sandbox = open(0, Window::Sliding).await;
    assert!(burst(&sandbox, 20).await.iter().all(|response| response.status == 200));
    sandbox.set_qps(NonZeroU32::new(1));
    let throttled = burst(&sandbox, 20).await.iter().filter(|response| response.status == 403).count();
    assert!(throttled > 0);
}
