//! Permits: valid only for what was approved, as often and as long as was approved.

use qchost_ledger::{BeginError, Binding, Ledger, Permit, Settlement, StandingPermit};
use serde_json::{Value, json};

use crate::{HOUR, NOW, binding, request, with_permit};

fn scope() -> Value {
    request().scope
}

/// The permit of an approved request.
async fn permit(ledger: &Ledger, standing: Option<StandingPermit>) -> Permit {
    let asked = ledger.request_approval(request()).await.unwrap();
    ledger
        .approve(&asked.id, 1001, "ann", standing, NOW + HOUR, NOW)
        .await
        .unwrap();
    let found = ledger
        .find_permit(&binding(), &scope(), 20_000, NOW)
        .await
        .unwrap();
    found.expect("a permit")
}

fn why(refused: BeginError) -> String {
    match refused {
        BeginError::PermitGone { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_permit_for_one_call_is_for_one_call() {
    let ledger = Ledger::in_memory().unwrap();
    let permit = permit(&ledger, None).await;
    assert_eq!(
        (permit.standing, permit.uses_left, permit.cost_left),
        (false, 1, Some(20_000))
    );
    ledger
        .begin(with_permit(&permit.id, 20_000, NOW))
        .await
        .unwrap();
    assert_eq!(
        ledger
            .find_permit(&binding(), &scope(), 20_000, NOW)
            .await
            .unwrap(),
        None
    );
    let again = ledger
        .begin(with_permit(&permit.id, 0, NOW))
        .await
        .unwrap_err();
    assert_eq!(why(again), "is used up");
}

/// A call that the server refuses returns its use of the permit, but the number of attempts is limited.
#[tokio::test]
async fn a_permit_ends_after_ten_refused_attempts_for_each_use() {
    let ledger = Ledger::in_memory().unwrap();
    let permit = permit(&ledger, None).await;
    // A call that was not sent is no attempt.
    for how in [vec![Settlement::Release; 15], vec![Settlement::Refused; 10]].concat() {
        let begun = ledger.begin(with_permit(&permit.id, 20_000, NOW)).await;
        ledger.settle(begun.unwrap(), how).await.unwrap();
    }
    let found = ledger.find_permit(&binding(), &scope(), 20_000, NOW).await;
    assert_eq!(found.unwrap(), None);
    let again = ledger
        .begin(with_permit(&permit.id, 20_000, NOW))
        .await
        .unwrap_err();
    assert_eq!(
        why(again),
        "is used up: too many of its calls were refused by the server"
    );
}

#[tokio::test]
async fn any_other_call_finds_no_permit() {
    let ledger = Ledger::in_memory().unwrap();
    permit(&ledger, None).await;
    let changes: [fn(&mut Binding); 6] = [
        |it| it.account = "other".to_owned(),
        |it| it.plugin = "other".to_owned(),
        |it| it.digest = "sha256:bb".to_owned(),
        |it| it.operation = "live/stop-live-algorithm".to_owned(),
        |it| it.profile_revision = "r2".to_owned(),
        |it| it.arguments_hmac = "h2".to_owned(),
    ];
    for change in changes {
        let mut other = binding();
        change(&mut other);
        let found = ledger
            .find_permit(&other, &scope(), 20_000, NOW)
            .await
            .unwrap();
        assert_eq!(found, None, "{other:?}");
    }
    // It costs more than was shown, or the permit has expired.
    assert_eq!(
        ledger
            .find_permit(&binding(), &scope(), 20_001, NOW)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        ledger
            .find_permit(&binding(), &scope(), 0, NOW + HOUR)
            .await
            .unwrap(),
        None
    );
    let at_last = ledger
        .find_permit(&binding(), &scope(), 20_000, NOW + HOUR - 1)
        .await
        .unwrap();
    assert!(at_last.is_some());
}

/// A permit that was found is checked again when it is used.
#[tokio::test]
async fn a_permit_is_checked_again_when_the_call_begins() {
    let ledger = Ledger::in_memory().unwrap();
    let permit = permit(&ledger, None).await;
    let late = ledger
        .begin(with_permit(&permit.id, 20_000, NOW + HOUR))
        .await
        .unwrap_err();
    assert_eq!(why(late), "has expired");
    let costly = ledger
        .begin(with_permit(&permit.id, 20_001, NOW))
        .await
        .unwrap_err();
    assert_eq!(
        why(costly),
        "covers only $2.0000 more, and this costs $2.0001"
    );
    let mut stolen = with_permit(&permit.id, 0, NOW);
    stolen.plugin = "other".to_owned();
    let stolen = ledger.begin(stolen).await.unwrap_err();
    assert_eq!(
        why(stolen),
        "was given to another plugin or for another account"
    );
    let made_up = ledger
        .begin(with_permit("pm-0123456789", 0, NOW))
        .await
        .unwrap_err();
    assert_eq!(why(made_up), "does not exist");
    ledger
        .begin(with_permit(&permit.id, 20_000, NOW))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_standing_permit_is_for_its_scope_its_uses_and_its_money() {
    let ledger = Ledger::in_memory().unwrap();
    let standing = StandingPermit {
        uses: 3,
        until_ms: NOW + 8 * HOUR,
        max_cost: Some(50_000),
    };
    let permit = permit(&ledger, Some(standing)).await;
    assert_eq!(
        (permit.standing, permit.uses_left, permit.expires),
        (true, 3, NOW + 8 * HOUR)
    );

    let mut other_arguments = binding();
    other_arguments.arguments_hmac = "h2".to_owned();
    other_arguments.profile_revision = "r2".to_owned();
    let later = NOW + 7 * HOUR;
    // Two scopes are equal regardless of the order of their keys, but not of their values.
    let reordered = json!({"name": "Lab/Momentum", "project": 7});
    let found = ledger
        .find_permit(&other_arguments, &reordered, 20_000, later)
        .await
        .unwrap();
    assert_eq!(found.as_ref(), Some(&permit));
    let elsewhere = json!({"name": "Lab/Momentum", "project": 8});
    assert_eq!(
        ledger
            .find_permit(&other_arguments, &elsewhere, 0, later)
            .await
            .unwrap(),
        None
    );
    let mut other_code = binding();
    other_code.digest = "sha256:bb".to_owned();
    assert_eq!(
        ledger
            .find_permit(&other_code, &scope(), 0, later)
            .await
            .unwrap(),
        None
    );

    for _ in 0..2 {
        ledger
            .begin(with_permit(&permit.id, 20_000, NOW))
            .await
            .unwrap();
    }
    assert_eq!(
        ledger
            .find_permit(&binding(), &scope(), 10_001, NOW)
            .await
            .unwrap(),
        None
    );
    let left = ledger
        .find_permit(&binding(), &scope(), 10_000, NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((left.uses_left, left.cost_left), (1, Some(10_000)));
    ledger
        .begin(with_permit(&permit.id, 10_000, NOW))
        .await
        .unwrap();
    let again = ledger
        .begin(with_permit(&permit.id, 0, NOW))
        .await
        .unwrap_err();
    assert_eq!(why(again), "is used up");
}

/// Nothing was sent: the use is returned, once.
#[tokio::test]
async fn a_release_gives_the_permit_back_once() {
    let ledger = Ledger::in_memory().unwrap();
    let permit = permit(&ledger, None).await;
    let reservation = ledger
        .begin(with_permit(&permit.id, 15_000, NOW))
        .await
        .unwrap();
    for _ in 0..2 {
        ledger
            .settle(reservation, Settlement::Release)
            .await
            .unwrap();
    }
    let found = ledger
        .find_permit(&binding(), &scope(), 20_000, NOW)
        .await
        .unwrap();
    assert_eq!(found, Some(permit.clone()));

    let reservation = ledger
        .begin(with_permit(&permit.id, 15_000, NOW))
        .await
        .unwrap();
    ledger
        .settle(reservation, Settlement::Commit)
        .await
        .unwrap();
    ledger
        .settle(reservation, Settlement::Release)
        .await
        .unwrap();
    assert_eq!(
        ledger
            .find_permit(&binding(), &scope(), 0, NOW)
            .await
            .unwrap(),
        None
    );
}

/// A call that is refused for its budget does not use the permit.
#[tokio::test]
async fn a_call_that_may_not_begin_keeps_its_permit() {
    let ledger = Ledger::in_memory().unwrap();
    let permit = permit(&ledger, None).await;
    let mut call = with_permit(&permit.id, 0, NOW);
    call.charges = vec![crate::counted("runs", 0)];
    let refused = ledger.begin(call.clone()).await.unwrap_err();
    assert!(matches!(refused, BeginError::Exhausted { .. }), "{refused}");
    call.charges = vec![crate::counted("runs", 1)];
    ledger.begin(call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_use_a_permit_no_more_often_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let standing = StandingPermit {
        uses: 17,
        until_ms: NOW + HOUR,
        max_cost: None,
    };
    let permit = permit(&ledger, Some(standing)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (ledger, id) = (ledger.clone(), permit.id.clone());
        tasks.spawn(async move {
            let found = ledger
                .find_permit(&binding(), &scope(), 1, NOW)
                .await
                .unwrap();
            let began = ledger.begin(with_permit(&id, 1, NOW)).await;
            assert!(
                found.is_some() || began.is_err(),
                "used what could not be found"
            );
            began.is_ok()
        });
    }
    let began = tasks.join_all().await.into_iter().filter(|it| *it).count();
    assert_eq!(began, 17);
}
