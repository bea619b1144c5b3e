//! Approvals: who may decide, the effect of a decision, and the answer to a plugin that asks again.

use qchost_ledger::{
    ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, ApprovalVote, Ledger, RequestError,
    StandingPermit, Status,
};

use crate::{HOUR, NOW, binding, request, with_permit};

const ANN: u32 = 1001;
const BEN: u32 = 1002;
/// The user id of the requester in `request`.
const REQUESTER: u32 = 1000;

async fn permitted(ledger: &Ledger, now: i64) -> bool {
    let found = ledger
        .find_permit(&binding(), &request().scope, 20_000, now)
        .await;
    found.unwrap().is_some()
}

async fn page(ledger: &Ledger, all: bool, after: Option<&str>, now: i64) -> ApprovalPage {
    let filter = ApprovalFilter {
        all,
        after: after.map(str::to_owned),
        limit: 100,
    };
    ledger.approvals(filter, now).await.unwrap()
}

/// The ids of the listed approvals.
async fn listed(ledger: &Ledger, all: bool, now: i64) -> Vec<String> {
    let page = page(ledger, all, None, now).await;
    page.approvals.into_iter().map(|one| one.id).collect()
}

#[tokio::test]
async fn a_request_waits_until_a_person_approves_it() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    assert_eq!(asked.status, Status::Pending);
    let name = asked.id.strip_prefix("ap-").expect("the prefix");
    assert_eq!(name.len(), 10);
    assert!(!permitted(&ledger, NOW).await);
    // A repeated request gets the same approval.
    assert_eq!(ledger.request_approval(request()).await.unwrap(), asked);
    assert_eq!(listed(&ledger, false, NOW).await, [asked.id.as_str()]);

    let approved = ledger
        .approve(&asked.id, ANN, "ann", None, NOW + HOUR, NOW + 1)
        .await
        .unwrap();
    assert_eq!(approved.status, Status::Approved);
    assert_eq!(approved.decisions[0].name, "ann");
    assert_eq!(approved.decisions[0].verdict, ApprovalVote::Approved);
    assert!(permitted(&ledger, NOW).await);
    assert!(listed(&ledger, false, NOW).await.is_empty());
    // A call between the decision and its use gets this approval and does not request another one.
    assert_eq!(ledger.request_approval(request()).await.unwrap(), approved);

    let permit = ledger
        .find_permit(&binding(), &request().scope, 0, NOW)
        .await
        .unwrap()
        .unwrap();
    ledger
        .begin(with_permit(&permit.id, 20_000, NOW))
        .await
        .unwrap();
    let used = ledger.approval(&asked.id, NOW).await.unwrap().unwrap();
    assert_eq!(used.status, Status::Used);
    assert_eq!(listed(&ledger, true, NOW).await, [used.id.as_str()]);
    assert_ne!(
        ledger.request_approval(request()).await.unwrap().id,
        asked.id
    );
}

#[tokio::test]
async fn what_was_refused_stays_refused_until_it_expires() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    let refused = ledger
        .refuse(&asked.id, ANN, "ann", "not today", NOW)
        .await
        .unwrap();
    assert_eq!(refused.status, Status::Refused);
    assert_eq!(refused.decisions[0].reason, "not today");
    assert!(!permitted(&ledger, NOW).await);
    let again = ledger.request_approval(request()).await.unwrap();
    assert_eq!(again, refused);
    let error = ledger
        .approve(&asked.id, BEN, "ben", None, NOW + HOUR, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApprovalError::NotPending(Status::Refused)),
        "{error}"
    );

    let mut later = request();
    later.now = NOW + HOUR;
    later.expires = NOW + 2 * HOUR;
    let anew = ledger.request_approval(later).await.unwrap();
    assert_ne!(anew.id, asked.id);
    assert_eq!(anew.status, Status::Pending);
}

#[tokio::test]
async fn a_decision_cannot_be_made_too_late() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    let late = NOW + HOUR;
    let error = ledger
        .approve(&asked.id, ANN, "ann", None, late + HOUR, late)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApprovalError::NotPending(Status::Expired)),
        "{error}"
    );
    let error = ledger
        .refuse(&asked.id, ANN, "ann", "", late)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApprovalError::NotPending(Status::Expired)),
        "{error}"
    );
    assert!(listed(&ledger, false, late).await.is_empty());
    let shown = ledger.approval(&asked.id, late).await.unwrap().unwrap();
    assert_eq!(shown.status, Status::Expired);
    // A decision in the last moment counts.
    ledger
        .approve(&asked.id, ANN, "ann", None, late + HOUR, late - 1)
        .await
        .unwrap();
    let error = ledger
        .approve("ap-0000000000", ANN, "ann", None, late, NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, ApprovalError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn an_approved_call_that_was_not_made_expires() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    ledger
        .approve(&asked.id, ANN, "ann", None, NOW + HOUR / 2, NOW)
        .await
        .unwrap();
    let later = ledger
        .approval(&asked.id, NOW + HOUR / 2)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(later.status, Status::Expired);
    let mut again = request();
    again.now = NOW + HOUR / 2;
    assert_ne!(ledger.request_approval(again).await.unwrap().id, asked.id);
}

#[tokio::test]
async fn two_people_are_two_and_neither_is_the_requester() {
    let ledger = Ledger::in_memory().unwrap();
    let mut both = request();
    both.needs = 2;
    let asked = ledger.request_approval(both.clone()).await.unwrap();
    let yes = |uid, name| ledger.approve(&asked.id, uid, name, None, NOW + HOUR, NOW);
    assert!(matches!(
        yes(REQUESTER, "req").await,
        Err(ApprovalError::Requester)
    ));
    let first = yes(ANN, "ann").await.unwrap();
    assert_eq!((first.status, first.decisions.len()), (Status::Pending, 1));
    assert!(!permitted(&ledger, NOW).await);
    assert!(matches!(
        yes(ANN, "ann").await,
        Err(ApprovalError::SamePerson)
    ));
    assert!(matches!(
        yes(REQUESTER, "req").await,
        Err(ApprovalError::Requester)
    ));
    assert!(!permitted(&ledger, NOW).await);
    let second = yes(BEN, "ben").await.unwrap();
    assert_eq!(
        (second.status, second.decisions.len()),
        (Status::Approved, 2)
    );
    assert!(permitted(&ledger, NOW).await);

    // If one decision is enough, it may be the requester's own.
    let mut alone = request();
    alone.binding.arguments_hmac = "h2".to_owned();
    let asked = ledger.request_approval(alone).await.unwrap();
    ledger
        .approve(&asked.id, REQUESTER, "req", None, NOW + HOUR, NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn one_of_two_may_still_say_no() {
    let ledger = Ledger::in_memory().unwrap();
    let mut both = request();
    both.needs = 2;
    let asked = ledger.request_approval(both).await.unwrap();
    ledger
        .approve(&asked.id, ANN, "ann", None, NOW + HOUR, NOW)
        .await
        .unwrap();
    let refused = ledger
        .refuse(&asked.id, ANN, "ann", "on second thoughts", NOW)
        .await
        .unwrap();
    assert_eq!(refused.status, Status::Refused);
    let error = ledger
        .approve(&asked.id, BEN, "ben", None, NOW + HOUR, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApprovalError::NotPending(Status::Refused)),
        "{error}"
    );
    assert!(!permitted(&ledger, NOW).await);
}

/// A permit of two people is no wider than the narrower of their decisions.
#[tokio::test]
async fn two_people_give_what_both_would_give() {
    let wide = StandingPermit {
        uses: 10,
        until_ms: NOW + 8 * HOUR,
        max_cost: None,
    };
    let narrow = StandingPermit {
        uses: 20,
        until_ms: NOW + HOUR,
        max_cost: Some(90_000),
    };
    for (second, expected) in [
        (Some(narrow), (true, 10, Some(90_000), NOW + HOUR)),
        (None, (false, 1, Some(20_000), NOW + 2 * HOUR)),
    ] {
        let ledger = Ledger::in_memory().unwrap();
        let mut both = request();
        both.needs = 2;
        let asked = ledger.request_approval(both).await.unwrap();
        let until = NOW + 2 * HOUR;
        ledger
            .approve(&asked.id, ANN, "ann", Some(wide), until, NOW)
            .await
            .unwrap();
        ledger
            .approve(&asked.id, BEN, "ben", second, until, NOW)
            .await
            .unwrap();
        let found = ledger
            .find_permit(&binding(), &request().scope, 0, NOW)
            .await
            .unwrap()
            .unwrap();
        let found = (
            found.standing,
            found.uses_left,
            found.cost_left,
            found.expires,
        );
        assert_eq!(found, expected);
    }
}

/// A change of the required people, the cost or the scope makes it another request.
#[tokio::test]
async fn a_weaker_approval_does_not_answer_a_stronger_request() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    let mut more_people = request();
    more_people.needs = 2;
    let mut more_money = request();
    more_money.cost += 1;
    let mut elsewhere = request();
    elsewhere.scope = serde_json::json!({"project": 8});
    for other in [more_people, more_money, elsewhere] {
        let other = ledger.request_approval(other).await.unwrap();
        assert_ne!(other.id, asked.id);
    }
    let mut less_money = request();
    less_money.cost = 0;
    let id = ledger.request_approval(less_money).await.unwrap().id;
    let waiting = listed(&ledger, false, NOW).await;
    assert!(waiting.contains(&id) && waiting.len() == 4, "{waiting:?}");
}

#[tokio::test]
async fn a_component_is_approved_without_a_permit() {
    let ledger = Ledger::in_memory().unwrap();
    let mut component = request();
    component.kind = ApprovalKind::Component;
    let asked = ledger.request_approval(component.clone()).await.unwrap();
    ledger
        .approve(&asked.id, ANN, "ann", None, NOW + HOUR, NOW)
        .await
        .unwrap();
    assert_eq!(
        ledger.request_approval(component).await.unwrap().status,
        Status::Approved
    );
    assert!(!permitted(&ledger, NOW).await);
}

#[tokio::test]
async fn a_plugin_cannot_flood_the_list() {
    let ledger = Ledger::in_memory().unwrap();
    let numbered = |number: u32| {
        let mut other = request();
        other.binding.arguments_hmac = number.to_string();
        other
    };
    for number in 0..100 {
        ledger.request_approval(numbered(number)).await.unwrap();
    }
    let error = ledger.request_approval(numbered(100)).await.unwrap_err();
    assert!(
        matches!(&error, RequestError::TooManyPending { limit: 100, .. }),
        "{error}"
    );
    // Existing requests are still answered, other plugins are not affected, and decisions make room.
    let there = ledger.request_approval(numbered(99)).await.unwrap();
    let mut other = numbered(100);
    other.binding.plugin = "risk".to_owned();
    ledger.request_approval(other).await.unwrap();
    ledger.refuse(&there.id, ANN, "ann", "", NOW).await.unwrap();
    ledger.request_approval(numbered(100)).await.unwrap();
    let mut later = numbered(101);
    later.now = NOW + HOUR;
    ledger.request_approval(later).await.unwrap();
}

/// Everything about it survives a restart of the process.
#[tokio::test]
async fn approvals_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    let mut both = request();
    both.needs = 2;
    let asked = ledger.request_approval(both).await.unwrap();
    let standing = Some(StandingPermit {
        uses: 2,
        until_ms: NOW + HOUR,
        max_cost: Some(1),
    });
    let first = ledger
        .approve(&asked.id, ANN, "ann", standing, NOW + HOUR, NOW)
        .await
        .unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.approval(&asked.id, NOW).await.unwrap(), Some(first));
    ledger
        .approve(&asked.id, BEN, "ben", standing, NOW + HOUR, NOW)
        .await
        .unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert!(!permitted(&ledger, NOW).await);
    let cheap = ledger
        .find_permit(&binding(), &request().scope, 1, NOW)
        .await
        .unwrap();
    assert_eq!(cheap.unwrap().uses_left, 2);
}

#[tokio::test]
async fn lists_come_in_pages_and_without_what_is_shown() {
    let ledger = Ledger::in_memory().unwrap();
    let mut asked = Vec::new();
    for number in 0..7 {
        let mut new = request();
        new.binding.arguments_hmac = number.to_string();
        new.now = NOW + number % 3;
        asked.push(ledger.request_approval(new).await.unwrap().id);
    }
    let mut found = Vec::new();
    loop {
        let filter = ApprovalFilter {
            all: false,
            after: found.last().cloned(),
            limit: 3,
        };
        let page = ledger.approvals(filter, NOW).await.unwrap();
        assert!(page.approvals.iter().all(|one| one.view.is_null()));
        found.extend(page.approvals.into_iter().map(|one| one.id));
        assert_eq!(page.more, 7 - found.len() as u64);
        if page.more == 0 {
            break;
        }
    }
    found.sort();
    asked.sort();
    assert_eq!(found, asked);
    assert_eq!(
        page(&ledger, false, Some("ap-nothing123"), NOW).await.more,
        0
    );
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_for_each_plugin() {
    let ledger = Ledger::in_memory().unwrap();
    let large = |plugin: &str, number: usize| {
        let mut new = request();
        new.binding.plugin = plugin.to_owned();
        new.binding.arguments_hmac = number.to_string();
        new.contents = Some("x".repeat(3 << 20));
        new
    };
    for number in 0..2 {
        ledger.request_approval(large("lab", number)).await.unwrap();
    }
    let error = ledger.request_approval(large("lab", 2)).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { .. }), "{error}");
    assert_eq!(listed(&ledger, false, NOW).await.len(), 2);
    // Another plugin has its own limit, and a component of the same plugin is not held up.
    let other = ledger.request_approval(large("other", 0)).await.unwrap();
    let contents = ledger.approval_contents(&other.id).await.unwrap();
    assert_eq!(contents.map(|text| text.len()), Some(3 << 20));
    let mut component = large("lab", 3);
    component.kind = ApprovalKind::Component;
    let component = ledger.request_approval(component).await.unwrap();
    assert_eq!(
        ledger.waiting_components(NOW).await.unwrap(),
        [("lab".to_owned(), component.id)]
    );
    assert_eq!(ledger.waiting_components(NOW + HOUR).await.unwrap(), []);
    // Expired requests do not count against the limit, and their contents are removed.
    let mut later = large("lab", 4);
    (later.now, later.expires) = (NOW + HOUR, NOW + 2 * HOUR);
    ledger.request_approval(later).await.unwrap();
}

#[tokio::test]
async fn a_permit_that_was_revoked_lets_nothing_through() {
    let ledger = Ledger::in_memory().unwrap();
    let asked = ledger.request_approval(request()).await.unwrap();
    let revoke = async |id: &str| ledger.revoke(id, "ben", NOW + 1).await;
    assert!(matches!(
        revoke(&asked.id).await,
        Err(ApprovalError::NothingToRevoke(Status::Pending))
    ));
    assert!(matches!(
        revoke("ap-nothing123").await,
        Err(ApprovalError::Unknown(_))
    ));
    let standing = StandingPermit {
        uses: 3,
        until_ms: NOW + 8 * HOUR,
        max_cost: Some(50_000),
    };
    let approved = ledger
        .approve(&asked.id, ANN, "ann", Some(standing), NOW + HOUR, NOW)
        .await
        .unwrap();
    // Shows the expiry of the permit, not that of the request.
    assert_eq!(
        (asked.ends(), approved.ends()),
        (NOW + HOUR, NOW + 8 * HOUR)
    );
    let permit = approved.permit.unwrap();
    ledger
        .begin(with_permit(&permit.id, 20_000, NOW))
        .await
        .unwrap();
    let left = ledger
        .approval(&asked.id, NOW)
        .await
        .unwrap()
        .unwrap()
        .permit;
    let left = left.unwrap();
    assert_eq!((left.uses_left, left.cost_left), (2, Some(30_000)));
    let revoked = revoke(&permit.id).await.unwrap();
    assert_eq!(revoked.status, Status::Revoked);
    assert_eq!(revoked.permit.unwrap().revoked_by.as_deref(), Some("ben"));
    // It is no longer found, and one that was found before cannot be used.
    assert!(!permitted(&ledger, NOW).await);
    let late = ledger.begin(with_permit(&permit.id, 20_000, NOW)).await;
    assert!(late.unwrap_err().to_string().contains("was revoked"));
    assert!(matches!(
        revoke(&asked.id).await,
        Err(ApprovalError::NothingToRevoke(Status::Revoked))
    ));
    // Requested again, it is a new request.
    assert_ne!(
        ledger.request_approval(request()).await.unwrap().id,
        asked.id
    );
}

#[tokio::test]
async fn pending_calls_of_a_plugin_can_be_closed_and_no_decided_one() {
    let ledger = Ledger::in_memory().unwrap();
    let ask = async |number: usize| {
        let mut new = request();
        new.binding.arguments_hmac = number.to_string();
        ledger.request_approval(new).await.unwrap().id
    };
    let (pending, decided, kept) = (ask(0).await, ask(1).await, ask(2).await);
    ledger
        .approve(&decided, ANN, "ann", None, NOW + HOUR, NOW)
        .await
        .unwrap();
    let plugin = request().binding.plugin;
    let found = ledger.pending_calls(&plugin, NOW).await.unwrap();
    let mut ids: Vec<_> = found.into_iter().map(|one| one.id).collect();
    ids.sort();
    let mut expected = vec![pending.clone(), kept.clone()];
    expected.sort();
    assert_eq!(ids, expected);
    assert!(ledger.pending_calls("other", NOW).await.unwrap().is_empty());
    let both = vec![pending.clone(), decided];
    let closed = ledger.close_calls(both, "it is gone", NOW).await.unwrap();
    assert_eq!(closed, [pending.as_str()]);
    assert_eq!(listed(&ledger, false, NOW).await, [kept.as_str()]);
}

#[tokio::test]
async fn what_no_client_was_told_of_can_be_closed_and_nothing_else() {
    let ledger = Ledger::in_memory().unwrap();
    let ask = async |number: usize| {
        let mut new = request();
        new.binding.arguments_hmac = number.to_string();
        new.unannounced = true;
        ledger.request_approval(new).await.unwrap().id
    };
    let (orphan, told, crashed) = (ask(0).await, ask(1).await, ask(2).await);
    ledger
        .mark_approvals_announced(vec![told.clone()])
        .await
        .unwrap();
    let both = Some(vec![orphan.clone(), told.clone()]);
    let closed = ledger
        .close_approvals(both, "it is gone", NOW)
        .await
        .unwrap();
    assert_eq!(closed, [orphan.as_str()]);
    let shown = ledger.approval(&orphan, NOW).await.unwrap().unwrap();
    assert_eq!(
        (shown.status, shown.closed.as_deref()),
        (Status::Closed, Some("it is gone"))
    );
    let late = ledger
        .approve(&orphan, ANN, "ann", None, NOW + HOUR, NOW)
        .await;
    assert!(matches!(
        late,
        Err(ApprovalError::NotPending(Status::Closed))
    ));
    assert!(!permitted(&ledger, NOW).await);
    // After a crash, no client waits for the requests.
    let closed = ledger.close_approvals(None, "it ended", NOW).await.unwrap();
    assert_eq!(closed, [crashed.as_str()]);
    assert_eq!(listed(&ledger, false, NOW).await, [told.as_str()]);
    assert_ne!(ask(0).await, orphan);
}
