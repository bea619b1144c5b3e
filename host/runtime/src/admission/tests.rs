//! Fairness and bookkeeping of admissions, without a plugin.

use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;

/// An admission, if one is free.
fn admit(plugin: &PluginLimiter) -> Option<InvocationAdmission<'_>> {
    if let Some(admission) = plugin.try_admit() {
        return Some(admission);
    }
    // The other way to ask is refused too.
    match plugin.request(0) {
        Ok(_) => panic!("there was none a moment ago"),
        Err(why) => {
            assert_eq!(why, Rejection::Busy(0));
            None
        }
    }
}

fn wait(plugin: &PluginLimiter) -> Queued<'_> {
    match plugin.request(100) {
        Ok(AdmissionStatus::Queued(waiting)) => waiting,
        Ok(AdmissionStatus::Admitted(_)) => panic!("there was a free one"),
        Err(why) => panic!("{why:?}"),
    }
}

fn come<'a>(waiting: &mut Queued<'a>) -> Option<InvocationAdmission<'a>> {
    waiting.admitted().now_or_never().map(Result::unwrap)
}

/// As many admissions as a plugin can have.
fn fill(plugin: &PluginLimiter) -> Vec<InvocationAdmission<'_>> {
    std::iter::from_fn(|| admit(plugin)).collect()
}

fn plugins<const N: usize>(host: &InvocationLimiter, limit: usize) -> [PluginLimiter; N] {
    std::array::from_fn(|_| {
        let plugin = host.plugin();
        plugin.open(limit);
        plugin
    })
}

#[test]
fn a_plugin_that_parks_all_its_invocations_takes_no_other_plugins_first() {
    let host = InvocationLimiter::new(16);
    let [greedy, one, two] = plugins(&host, 16);
    let parked = fill(&greedy);
    assert_eq!(parked.len(), 14, "one is kept for each of the others");
    let first = admit(&one);
    assert!(first.is_some());
    assert!(admit(&one).is_none(), "the last one is for the third");
    assert!(admit(&two).is_some());

    drop((parked, first));
    let [alone] = plugins(&InvocationLimiter::new(16), 16);
    assert_eq!(fill(&alone).len(), 16, "alone it has the whole host");
}

#[test]
fn with_more_plugins_than_admissions_half_of_them_are_for_any_plugin() {
    let plugins: [PluginLimiter; 20] = plugins(&InvocationLimiter::new(8), 16);
    let parked = fill(&plugins[0]);
    assert_eq!(parked.len(), 4);
    assert!(plugins[1..5].iter().all(|plugin| admit(plugin).is_some()));
}

#[test]
fn a_plugin_that_is_not_loaded_has_none_kept_for_it() {
    let host = InvocationLimiter::new(4);
    let [greedy, other] = plugins(&host, 16);
    let mut parked = fill(&greedy);
    assert_eq!(parked.len(), 3);
    let mut waiting = wait(&greedy);
    assert!(come(&mut waiting).is_none());
    other.close();
    parked.extend(come(&mut waiting));
    assert_eq!(parked.len(), 4);
    assert_eq!(other.request(10).err(), Some(Rejection::Closed));
}

#[test]
fn the_next_goes_to_the_plugin_that_runs_the_fewest_and_of_those_to_the_one_that_waits_longest() {
    let host = InvocationLimiter::new(4);
    let [busy, first, second] = plugins(&host, 16);
    // Three for the busy plugin, as if the other plugins did not exist yet.
    first.close();
    second.close();
    let mut running = fill(&busy);
    assert_eq!(running.len(), 4);
    first.open(16);
    second.open(16);
    let mut more = wait(&busy);
    let mut late = wait(&second);
    let mut later = wait(&first);
    running.pop();
    assert!(come(&mut more).is_none(), "it runs three already");
    assert!(come(&mut later).is_none());
    let won = come(&mut late);
    assert!(won.is_some(), "of those that run nothing it waits longest");
    running.pop();
    assert!(come(&mut more).is_none());
    assert!(come(&mut later).is_some());
}

#[test]
fn the_queue_is_bounded_and_a_place_in_it_is_given_up_by_going_away() {
    let [plugin] = plugins(&InvocationLimiter::new(4), 1);
    let running = admit(&plugin).unwrap();
    let one = wait(&plugin);
    let mut two = wait(&plugin);
    assert_eq!(plugin.request(2).err(), Some(Rejection::Busy(2)));
    assert_eq!(plugin.counts(), (1, 2));
    drop(one);
    assert_eq!(plugin.counts(), (1, 1));
    drop(running);
    assert!(come(&mut two).is_some());
    drop(two);
    assert_eq!(plugin.counts(), (0, 0));
}

#[test]
fn a_turn_that_was_given_and_never_seen_goes_to_the_next() {
    let [plugin] = plugins(&InvocationLimiter::new(4), 1);
    let running = admit(&plugin).unwrap();
    let (one, mut two) = (wait(&plugin), wait(&plugin));
    drop(running);
    assert_eq!(plugin.counts(), (1, 1), "it is the first one's");
    drop(one);
    assert!(come(&mut two).is_some());
}

#[test]
fn a_limit_follows_the_manifest_while_invocations_run_and_wait() {
    let [plugin] = plugins(&InvocationLimiter::new(8), 2);
    let mut running = fill(&plugin);
    let (mut one, mut two) = (wait(&plugin), wait(&plugin));
    plugin.open(3);
    running.extend(come(&mut one));
    assert_eq!(running.len(), 3);
    assert!(come(&mut two).is_none());
    plugin.open(1);
    running.pop();
    running.pop();
    assert!(come(&mut two).is_none(), "one still runs");
    running.pop();
    assert!(come(&mut two).is_some());
}

#[test]
fn no_invocation_passes_those_that_wait() {
    let host = InvocationLimiter::new(2);
    let [plugin] = plugins(&host, 2);
    let (one, two) = (admit(&plugin), admit(&plugin));
    let mut waiting = wait(&plugin);
    drop(one);
    assert!(plugin.try_admit().is_none(), "it is given to who waits");
    assert!(come(&mut waiting).is_some());
    drop(two);
}

#[test]
fn the_end_is_waited_for_until_the_last_turn_is_given_back() {
    let host = InvocationLimiter::new(3);
    let [plugin] = plugins(&host, 3);
    let (one, two) = (admit(&plugin), admit(&plugin));
    let three = admit(&plugin);
    let waiting = wait(&plugin);
    host.end();
    let mut idle = Box::pin(host.idle());
    for running in [one, two, three] {
        assert!(idle.as_mut().now_or_never().is_none());
        drop(running);
    }
    assert!(idle.now_or_never().is_some());
    assert!(host.idle().now_or_never().is_some());
    assert!(plugin.try_admit().is_none(), "the host ends");
    drop(waiting);
}

#[test]
fn who_waits_is_told_when_the_plugin_or_the_host_goes() {
    let host = InvocationLimiter::new(8);
    let [one, two] = plugins(&host, 1);
    let (running, also) = (admit(&one).unwrap(), admit(&two).unwrap());
    let (mut first, mut second) = (wait(&one), wait(&two));
    one.close();
    assert_eq!(
        first.admitted().now_or_never().unwrap().err(),
        Some(Rejection::Closed)
    );
    host.end();
    assert_eq!(
        second.admitted().now_or_never().unwrap().err(),
        Some(Rejection::Ended)
    );
    assert_eq!(two.request(9).err(), Some(Rejection::Ended));
    drop((running, also));
    assert_eq!((one.counts(), two.counts()), ((0, 0), (0, 0)));
}

/// An event in a plugin.
#[derive(Debug, Clone)]
enum Event {
    Ask,
    /// A running one ends.
    End(usize),
    /// A queued one leaves.
    Leave(usize),
    Open(usize),
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Ask),
        3 => (0..8_usize).prop_map(Event::End),
        1 => (0..8_usize).prop_map(Event::Leave),
        1 => (1..5_usize).prop_map(Event::Open),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #[test]
    fn every_turn_is_counted_and_no_invocation_waits_for_a_free_one(
        limit in 1..7_usize,
        events in prop::collection::vec((0..3_usize, event()), 0..200),
    ) {
        let host = InvocationLimiter::new(limit);
        let plugins: [PluginLimiter; 3] = plugins(&host, 2);
        let mut running: [Vec<InvocationAdmission<'_>>; 3] = Default::default();
        let mut waiting: [Vec<Queued<'_>>; 3] = Default::default();
        for (at, event) in events {
            match event {
                Event::Ask => match plugins[at].request(4) {
                    Ok(AdmissionStatus::Admitted(admission)) => running[at].push(admission),
                    Ok(AdmissionStatus::Queued(queued)) => waiting[at].push(queued),
                    Err(_) => {}
                },
                Event::End(which) if !running[at].is_empty() => {
                    let which = which % running[at].len();
                    drop(running[at].swap_remove(which));
                }
                Event::Leave(which) if !waiting[at].is_empty() => {
                    let which = which % waiting[at].len();
                    drop(waiting[at].remove(which));
                }
                Event::End(_) | Event::Leave(_) => {}
                Event::Open(limit) => plugins[at].open(limit),
                Event::Close => plugins[at].close(),
            }
            for (running, waiting) in running.iter_mut().zip(&mut waiting) {
                waiting.retain_mut(|queued| match queued.admitted().now_or_never() {
                    Some(admission) => {
                        running.extend(admission);
                        false
                    }
                    None => true,
                });
            }
            for (plugin, (running, waiting)) in plugins.iter().zip(running.iter().zip(&waiting)) {
                prop_assert_eq!(plugin.counts(), (running.len(), waiting.len()));
            }
            let state = host.0.state.lock();
            let total: usize = running.iter().map(Vec::len).sum();
            prop_assert_eq!(state.free + total, limit);
            prop_assert_eq!(state.queue.len(), waiting.iter().map(Vec::len).sum::<usize>());
            for (id, plugin) in &state.plugins {
                let running = state.queue.count(id);
                let could = running < plugin.limit
                    && room(state.free, state.idle, state.limit, running);
                prop_assert!(state.queue.waiting(id) == 0 || !could, "{plugin:?}");
            }
        }
    }
}
