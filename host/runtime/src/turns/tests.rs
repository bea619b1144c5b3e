//! Fairness and bookkeeping of turns, without a plugin.

use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;

/// A turn, if one is free.
fn turn(lane: &Lane) -> Option<Turn<'_>> {
    if let Some(turn) = lane.turn() {
        return Some(turn);
    }
    // The other way to ask gets no turn either.
    match lane.ask(0) {
        Ok(_) => panic!("there was none a moment ago"),
        Err(why) => {
            assert_eq!(why, NoTurn::Busy(0));
            None
        }
    }
}

fn wait(lane: &Lane) -> Waiting<'_> {
    match lane.ask(100) {
        Ok(Asked::Waits(waiting)) => waiting,
        Ok(Asked::Turn(_)) => panic!("there was a free turn"),
        Err(why) => panic!("{why:?}"),
    }
}

fn come<'a>(waiting: &mut Waiting<'a>) -> Option<Turn<'a>> {
    waiting.turn().now_or_never().map(|turn| turn.unwrap())
}

/// As many turns as a lane can have.
fn fill(lane: &Lane) -> Vec<Turn<'_>> {
    std::iter::from_fn(|| turn(lane)).collect()
}

fn lanes<const N: usize>(turns: &Turns, limit: usize) -> [Lane; N] {
    std::array::from_fn(|_| {
        let lane = turns.lane();
        lane.open(limit);
        lane
    })
}

#[test]
fn a_plugin_that_parks_all_its_invocations_takes_no_other_plugins_first() {
    let turns = Turns::new(16);
    let [greedy, one, two] = lanes(&turns, 16);
    let parked = fill(&greedy);
    assert_eq!(parked.len(), 14, "one is kept for each of the others");
    let first = turn(&one);
    assert!(first.is_some());
    assert!(turn(&one).is_none(), "the last one is for the third");
    assert!(turn(&two).is_some());

    drop((parked, first));
    let [alone] = lanes(&Turns::new(16), 16);
    assert_eq!(fill(&alone).len(), 16, "alone it has the whole host");
}

#[test]
fn with_more_plugins_than_slots_half_of_the_slots_are_for_any_plugin() {
    let lanes: [Lane; 20] = lanes(&Turns::new(8), 16);
    let parked = fill(&lanes[0]);
    assert_eq!(parked.len(), 4);
    assert!(lanes[1..5].iter().all(|lane| turn(lane).is_some()));
}

#[test]
fn a_plugin_that_is_not_loaded_keeps_no_slot_free() {
    let turns = Turns::new(4);
    let [greedy, other] = lanes(&turns, 16);
    let mut parked = fill(&greedy);
    assert_eq!(parked.len(), 3);
    let mut waiting = wait(&greedy);
    assert!(come(&mut waiting).is_none());
    other.close();
    parked.extend(come(&mut waiting));
    assert_eq!(parked.len(), 4);
    assert_eq!(other.ask(10).err(), Some(NoTurn::Closed));
}

#[test]
fn a_free_slot_goes_to_who_runs_the_fewest_and_of_those_to_who_waits_longest() {
    let turns = Turns::new(4);
    let [busy, first, second] = lanes(&turns, 16);
    // Three for the busy lane, as if the other lanes did not exist yet.
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
    let [lane] = lanes(&Turns::new(4), 1);
    let running = turn(&lane).unwrap();
    let one = wait(&lane);
    let mut two = wait(&lane);
    assert_eq!(lane.ask(2).err(), Some(NoTurn::Busy(2)));
    assert_eq!(lane.counts(), (1, 2));
    drop(one);
    assert_eq!(lane.counts(), (1, 1));
    drop(running);
    assert!(come(&mut two).is_some());
    drop(two);
    assert_eq!(lane.counts(), (0, 0));
}

#[test]
fn a_turn_that_was_given_and_never_seen_goes_to_the_next() {
    let [lane] = lanes(&Turns::new(4), 1);
    let running = turn(&lane).unwrap();
    let (one, mut two) = (wait(&lane), wait(&lane));
    drop(running);
    assert_eq!(lane.counts(), (1, 1), "it is the first one's");
    drop(one);
    assert!(come(&mut two).is_some());
}

#[test]
fn a_limit_follows_the_manifest_while_invocations_run_and_wait() {
    let [lane] = lanes(&Turns::new(8), 2);
    let mut running = fill(&lane);
    let (mut one, mut two) = (wait(&lane), wait(&lane));
    lane.open(3);
    running.extend(come(&mut one));
    assert_eq!(running.len(), 3);
    assert!(come(&mut two).is_none());
    lane.open(1);
    running.pop();
    running.pop();
    assert!(come(&mut two).is_none(), "one still runs");
    running.pop();
    assert!(come(&mut two).is_some());
}

#[test]
fn no_invocation_passes_those_that_wait() {
    let turns = Turns::new(2);
    let [lane] = lanes(&turns, 2);
    let (one, two) = (turn(&lane), turn(&lane));
    let mut waiting = wait(&lane);
    drop(one);
    assert!(lane.turn().is_none(), "it is given to who waits");
    assert!(come(&mut waiting).is_some());
    drop(two);
}

#[test]
fn the_end_is_waited_for_until_the_last_turn_is_given_back() {
    let turns = Turns::new(3);
    let [lane] = lanes(&turns, 3);
    let (one, two) = (turn(&lane), turn(&lane));
    let three = turn(&lane);
    let waiting = wait(&lane);
    turns.end();
    let mut idle = Box::pin(turns.idle());
    for running in [one, two, three] {
        assert!(idle.as_mut().now_or_never().is_none());
        drop(running);
    }
    assert!(idle.now_or_never().is_some());
    assert!(turns.idle().now_or_never().is_some());
    assert!(lane.turn().is_none(), "the host ends");
    drop(waiting);
}

#[test]
fn who_waits_is_told_when_the_plugin_or_the_host_goes() {
    let turns = Turns::new(8);
    let [one, two] = lanes(&turns, 1);
    let (running, also) = (turn(&one).unwrap(), turn(&two).unwrap());
    let (mut first, mut second) = (wait(&one), wait(&two));
    one.close();
    assert_eq!(
        first.turn().now_or_never().unwrap().err(),
        Some(NoTurn::Closed)
    );
    turns.end();
    assert_eq!(
        second.turn().now_or_never().unwrap().err(),
        Some(NoTurn::Ended)
    );
    assert_eq!(two.ask(9).err(), Some(NoTurn::Ended));
    drop((running, also));
    assert_eq!((one.counts(), two.counts()), ((0, 0), (0, 0)));
}

/// An event in a lane.
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
        slots in 1..7_usize,
        events in prop::collection::vec((0..3_usize, event()), 0..200),
    ) {
        let turns = Turns::new(slots);
        let lanes: [Lane; 3] = lanes(&turns, 2);
        let mut running: [Vec<Turn<'_>>; 3] = Default::default();
        let mut waiting: [Vec<Waiting<'_>>; 3] = Default::default();
        for (at, event) in events {
            match event {
                Event::Ask => match lanes[at].ask(4) {
                    Ok(Asked::Turn(turn)) => running[at].push(turn),
                    Ok(Asked::Waits(place)) => waiting[at].push(place),
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
                Event::Open(limit) => lanes[at].open(limit),
                Event::Close => lanes[at].close(),
            }
            for (running, waiting) in running.iter_mut().zip(&mut waiting) {
                waiting.retain_mut(|place| match place.turn().now_or_never() {
                    Some(turn) => {
                        running.extend(turn);
                        false
                    }
                    None => true,
                });
            }
            for (lane, (running, waiting)) in lanes.iter().zip(running.iter().zip(&waiting)) {
                prop_assert_eq!(lane.counts(), (running.len(), waiting.len()));
            }
            let state = turns.state();
            let total: usize = running.iter().map(Vec::len).sum();
            prop_assert_eq!(state.free + total, slots);
            prop_assert_eq!(state.waiting, waiting.iter().map(Vec::len).sum::<usize>());
            for traffic in state.lanes.values() {
                let could = traffic.running < traffic.limit && state.has_room(traffic.running);
                prop_assert!(traffic.queue.is_empty() || !could, "{:?}", traffic);
            }
        }
    }
}
