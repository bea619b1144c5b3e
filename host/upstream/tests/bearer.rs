//! Calls whose token has to be renewed before they are sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use qchost_catalog::{BoxFuture, Clearance, Failure};
use qchost_upstream::{Accounts, BearerSource, HttpConnector, NoToken};
use secrecy::SecretString;
use serde_json::json;
use support::web::{Seen, Web, by_hand, success};
use support::{AtSending, accounts, call, call_if, options, wait_until};
use tokio::sync::{Semaphore, watch};

const LONG: u64 = 20_000;

/// A source whose token has to be renewed at some time, which takes until the test lets it go on.
struct Renewing {
    is_due: AtomicBool,
    asked: AtomicUsize,
    may_go_on: Semaphore,
    renewed: AtomicBool,
}

impl Renewing {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_due: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            may_go_on: Semaphore::new(0),
            renewed: AtomicBool::new(false),
        })
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > 0
    }
}

impl BearerSource for Renewing {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async {
            if self.is_due.load(Ordering::Relaxed) {
                self.asked.fetch_add(1, Ordering::Relaxed);
                drop(self.may_go_on.acquire().await);
                self.renewed.store(true, Ordering::Relaxed);
            }
            Ok(SecretString::from("hush-token"))
        })
    }

    fn refused(&self, _: &SecretString) {
        self.is_due.store(true, Ordering::Relaxed);
    }

    fn lacks(&self, _: &str) {}
}

/// A clearance that is withdrawn while a call is under way.
#[derive(Default)]
struct Halting {
    halted: watch::Sender<bool>,
    is_noticed: AtomicBool,
}

impl Clearance for Halting {
    fn clear(&self) -> Result<(), Failure> {
        match *self.halted.borrow() {
            true => Err(Failure::Halted("x".to_owned())),
            false => Ok(()),
        }
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        Box::pin(async {
            let mut halted = self.halted.subscribe();
            halted.wait_for(|halted| *halted).await.unwrap();
            self.is_noticed.store(true, Ordering::Relaxed);
            Failure::Halted("x".to_owned())
        })
    }
}

/// A refusal of the token of the call with this number.
fn refusing(number: usize) -> (Seen, Web) {
    by_hand(move |before, request| match before == number {
        true => {
            let challenge = ("www-authenticate", "Bearer".to_owned());
            (401, vec![challenge], String::new())
        }
        false => success(request),
    })
}

#[tokio::test]
async fn a_call_whose_token_was_refused_is_not_sent_again_once_it_is_halted() {
    let (source, (seen, web)) = (Renewing::new(), refusing(1));
    let accounts = due(&source, &web).await;
    source.is_due.store(false, Ordering::Relaxed);
    let clearance = Halting::default();
    let write = json!({ "id": 2 });
    let calling = call_if(&accounts, "create_backtest", write, LONG, &clearance);
    let halting = async {
        wait_until("the renewal has begun", || source.is_asked()).await;
        clearance.halted.send_replace(true);
        let is_noticed = || clearance.is_noticed.load(Ordering::Relaxed);
        wait_until("the halt is noticed", is_noticed).await;
        source.may_go_on.add_permits(1);
    };
    let (outcome, ()) = tokio::join!(calling, halting);
    assert!(matches!(outcome, Err(Failure::Halted(_))), "{outcome:?}");
    assert_eq!(seen.calls(), 2);
}

/// The twin of the one that is halted.
#[tokio::test]
async fn a_call_whose_token_was_refused_is_sent_again_with_the_next_one() {
    let (source, (seen, web)) = (Renewing::new(), refusing(1));
    let accounts = due(&source, &web).await;
    source.is_due.store(false, Ordering::Relaxed);
    source.may_go_on.add_permits(1);
    call(&accounts, "create_backtest", json!({ "id": 2 }), LONG)
        .await
        .unwrap();
    assert!(source.is_asked());
    assert_eq!(seen.calls(), 3);
}

/// An account with an open session, whose token has to be renewed for the next call.
async fn due(source: &Arc<Renewing>, web: &Web) -> Accounts {
    let connector = HttpConnector::new(&web.url(), vec![]).unwrap();
    let connector = connector.with_bearer(source.clone()).unwrap();
    let accounts = accounts(connector, options());
    call(&accounts, "read_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    source.is_due.store(true, Ordering::Relaxed);
    accounts
}

#[tokio::test]
async fn a_call_that_is_halted_while_its_token_is_renewed_is_not_sent() {
    let (source, (seen, web)) = (Renewing::new(), by_hand(|_, request| success(request)));
    let accounts = due(&source, &web).await;
    let halted = AtomicBool::new(false);
    let clearance = AtSending(|| match halted.load(Ordering::Relaxed) {
        true => Err(Failure::Halted("x".to_owned())),
        false => Ok(()),
    });
    let write = json!({ "id": 2 });
    let calling = call_if(&accounts, "create_backtest", write, LONG, &clearance);
    let halting = async {
        wait_until("the renewal has begun", || source.is_asked()).await;
        halted.store(true, Ordering::Relaxed);
        source.may_go_on.add_permits(1);
    };
    let (outcome, ()) = tokio::join!(calling, halting);
    assert!(matches!(outcome, Err(Failure::Halted(_))), "{outcome:?}");
    assert_eq!(seen.calls(), 1);
    // Its twin is cleared.
    call(&accounts, "create_backtest", json!({ "id": 3 }), LONG)
        .await
        .unwrap();
    assert_eq!(seen.calls(), 2);
}

/// The answer to a renewal may have the only refresh token that is good.
#[tokio::test]
async fn a_renewal_goes_on_when_its_caller_gives_up() {
    let (source, (seen, web)) = (Renewing::new(), by_hand(|_, request| success(request)));
    let accounts = due(&source, &web).await;
    let late = call(&accounts, "create_backtest", json!({ "id": 2 }), 300).await;
    assert!(matches!(late, Err(Failure::TimedOut { .. })), "{late:?}");
    assert!(source.is_asked());
    source.may_go_on.add_permits(1);
    let is_renewed = || source.renewed.load(Ordering::Relaxed);
    wait_until("the renewal has ended", is_renewed).await;
    assert_eq!(seen.calls(), 1);
}
