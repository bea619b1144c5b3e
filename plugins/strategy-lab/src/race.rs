//! Searches for the best parameters, in rounds: one for a plain sweep, several for successive halving.
//!
//! Searches of several periods run side by side: each round of all of them is one batch of backtests.
//!
//! Invariant: the number of backtests is known before the first one is started, and never exceeded.

use qchost_sdk::prelude::*;
use qchost_sdk::types::ParameterSet;
use qchost_sdk::workflow::{Item, ItemResult};
use serde::Serialize;

use crate::method::Method;
use crate::ranking::{self, Miss, Row};
use crate::robustness::walk_forward::Period;
use crate::space::Space;
use crate::stability;
use crate::window::{self, Days, Names};

/// A longer name of a backtest is replaced by its number.
const MAX_NAME_LENGTH: usize = 100;

/// One search.
#[derive(Debug)]
pub(crate) struct Race {
    names: Option<Names>,
    planned: Vec<Planned>,
    /// The combinations of the next round, those that ranked best first.
    standing: Vec<ParameterSet>,
    done: Vec<Done>,
    failure: Option<Failure>,
}

/// A round that is planned.
#[derive(Debug)]
struct Planned {
    period: Option<Period>,
    /// How many combinations it has at most.
    count: usize,
}

/// A round that is over.
#[derive(Debug)]
struct Done {
    ranking: Vec<Row>,
    misses: Vec<Miss>,
    backtests: usize,
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The ranking of the last round, which has at least one row.
    pub(crate) ranking: Vec<Row>,
    /// What gave no result in any round.
    pub(crate) misses: Vec<Miss>,
    /// All rounds.
    pub(crate) rounds: Vec<Round>,
}

/// A round, as results show it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Round {
    /// The period of its backtests; null where the algorithm decides.
    pub(crate) window: Option<Days>,
    /// How many backtests were started.
    pub(crate) backtests: usize,
    /// How many of them gave a result.
    pub(crate) ranked: usize,
    /// Spearman's rank correlation with the round before, of the combinations that are in both, from -1 to 1; null for fewer
    /// than 3.
    pub(crate) correlation: Option<f64>,
}

impl Race {
    /// Plans a search of a period, or of that of the algorithm.
    ///
    /// # Errors
    /// If the method cannot choose from the space, or needs a period.
    pub(crate) fn new(
        method: &Method,
        space: &Space,
        window: Option<(Names, Period)>,
    ) -> Result<Self, Failure> {
        let standing = method.candidates(space)?;
        let (rounds, eta) = method.rounds()?;
        let (names, periods) = match window {
            Some((names, period)) => {
                let periods = window::rounds(period, rounds, eta)?;
                (Some(names), periods.into_iter().map(Some).collect())
            }
            None if rounds == 1 => (None, vec![None]),
            None => {
                return Err(Failure::invalid_input(
                    "halving needs `window`: the period, and the parameters from which the algorithm reads it",
                ));
            }
        };
        let mut count = standing.len();
        let mut planned = Vec::new();
        for period in periods {
            planned.push(Planned { period, count });
            count = count.div_ceil(usize::try_from(eta).unwrap_or(usize::MAX));
        }
        Ok(Self {
            names,
            planned,
            standing,
            done: Vec::new(),
            failure: None,
        })
    }

    /// How many combinations it begins with.
    pub(crate) fn combinations(&self) -> usize {
        self.planned.first().map_or(0, |round| round.count)
    }

    /// How many backtests it runs at most.
    pub(crate) fn backtests(&self) -> usize {
        self.planned.iter().map(|round| round.count).sum()
    }

    /// The backtests of the next round; none if it is over.
    fn next(&self) -> Vec<Item> {
        let Some(round) = self.planned.get(self.done.len()) else {
            return Vec::new();
        };
        if self.failure.is_some() {
            return Vec::new();
        }
        let sets = self.standing.iter().take(round.count);
        let item = |(number, set): (usize, &ParameterSet)| {
            let mut parameters = set.clone();
            if let (Some(names), Some(period)) = (&self.names, round.period) {
                parameters.extend(names.parameters(period));
            }
            item(number, parameters)
        };
        (1..).zip(sets).map(item).collect()
    }

    /// Takes the results of a round.
    fn take(&mut self, mut results: Vec<ItemResult>, target: &str) {
        // The window is that of the round, and no part of the combination.
        if let Some(names) = &self.names {
            for result in &mut results {
                let is_own = |name: &String| *name != names.start && *name != names.end;
                result.parameters.retain(|(name, _)| is_own(name));
            }
        }
        let backtests = results.len();
        match ranking::rank(results, target) {
            Ok((ranking, misses)) => {
                let sets = ranking.iter().map(|row| row.parameters.clone());
                self.standing = sets.map(|set| set.into_iter().collect()).collect();
                self.done.push(Done {
                    ranking,
                    misses,
                    backtests,
                });
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// What it found.
    ///
    /// # Errors
    /// If a round gave no result at all.
    pub(crate) fn finish(self) -> Result<Found, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut found = Found {
            ranking: Vec::new(),
            misses: Vec::new(),
            rounds: Vec::new(),
        };
        for (planned, done) in self.planned.iter().zip(self.done) {
            found.rounds.push(Round {
                window: planned.period.map(Days::from),
                backtests: done.backtests,
                ranked: done.ranking.len(),
                correlation: stability::between(&found.ranking, &done.ranking),
            });
            found.ranking = done.ranking;
            found.misses.extend(done.misses);
        }
        Ok(found)
    }
}

/// Runs searches side by side. `run` runs the backtests of a round; its first argument says which one it is.
///
/// # Errors
/// That of `run`. A search whose backtests all fail says so when it is finished.
pub(crate) fn run(
    races: &mut [Race],
    target: &str,
    mut run: impl FnMut(&str, Vec<Item>) -> Result<Vec<ItemResult>, Failure>,
) -> Result<(), Failure> {
    let rounds = races.iter().map(|race| race.planned.len()).max();
    let rounds = rounds.unwrap_or_default();
    for round in 1..=rounds {
        let batches: Vec<Vec<Item>> = races.iter().map(Race::next).collect();
        let counts: Vec<usize> = batches.iter().map(Vec::len).collect();
        let items: Vec<Item> = batches.into_iter().flatten().collect();
        if items.is_empty() {
            break;
        }
        let name = if rounds == 1 {
            "the search".to_owned()
        } else {
            format!("round {round} of {rounds}")
        };
        let mut results = run(&name, items)?.into_iter();
        for (race, count) in races.iter_mut().zip(counts) {
            if count > 0 {
                race.take(results.by_ref().take(count).collect(), target);
            }
        }
    }
    Ok(())
}

/// A backtest that is named by its parameters, or by its number where these are long.
pub(crate) fn item(number: usize, parameters: ParameterSet) -> Item {
    let name = name(parameters.iter().map(|(name, value)| (name, value)));
    Item {
        name: if name.is_empty() || name.len() > MAX_NAME_LENGTH {
            format!("sweep {number}")
        } else {
            name
        },
        parameters,
    }
}

/// `fast=10 slow=50`
pub(crate) fn name<'a>(parameters: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<String> = parameters
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::figures::tests::backtest;
    use crate::space::tests::space;
    use crate::window::tests::period;

    const TARGET: &str = "Sharpe Ratio";

    fn names() -> Names {
        Names {
            start: "start".into(),
            end: "end".into(),
        }
    }

    fn halving(samples: &str) -> Method {
        serde_json::from_str(&format!("{{\"kind\": \"halving\"{samples}}}")).unwrap()
    }

    /// Backtests whose Sharpe ratio is the parameter `fast`.
    pub(crate) fn ended(items: Vec<Item>) -> Vec<ItemResult> {
        let result = |item: Item| {
            let fast = item.parameters.iter().find(|(name, _)| name == "fast");
            let value: f64 = fast.unwrap().1.parse().unwrap();
            ItemResult {
                outcome: Ok(backtest(&item.name, &[(TARGET, value)])),
                name: item.name,
                parameters: item.parameters,
            }
        };
        items.into_iter().map(result).collect()
    }

    fn race(method: &Method, windowed: bool) -> Race {
        let space = space(r#"{"fast": {"min": 1, "max": 27, "step": 1}}"#);
        let window = windowed.then(|| (names(), period("2020-01-01", "2020-12-31")));
        Race::new(method, &space, window).unwrap()
    }

    #[test]
    fn a_plain_search_is_one_round() {
        let mut races = [race(&Method::Grid, false)];
        assert_eq!((races[0].combinations(), races[0].backtests()), (27, 27));
        let mut batches = Vec::new();
        run(&mut races, TARGET, |name, items| {
            batches.push((name.to_owned(), items.len(), items[0].name.clone()));
            Ok(ended(items))
        })
        .unwrap();
        assert_eq!(
            batches,
            [("the search".to_owned(), 27, "fast=1".to_owned())]
        );
        let [race] = races;
        let found = race.finish().unwrap();
        assert_eq!(found.ranking[0].parameters["fast"], "27");
        assert_eq!(found.rounds.len(), 1);
        assert_eq!(found.rounds[0].window, None);
    }

    #[test]
    fn the_best_go_on_with_longer_windows() {
        let mut races = [race(&halving(""), true)];
        assert_eq!(races[0].backtests(), 27 + 9 + 3);
        let mut seen = Vec::new();
        run(&mut races, TARGET, |name, items| {
            let start = items[0].parameters.iter().find(|(name, _)| name == "start");
            seen.push((name.to_owned(), items.len(), start.unwrap().1.clone()));
            Ok(ended(items))
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                ("round 1 of 3".to_owned(), 27, "2020-11-22".to_owned()),
                ("round 2 of 3".to_owned(), 9, "2020-09-01".to_owned()),
                ("round 3 of 3".to_owned(), 3, "2020-01-01".to_owned()),
            ]
        );
        let [race] = races;
        let found = race.finish().unwrap();
        let best: Vec<&str> = found
            .ranking
            .iter()
            .map(|row| row.parameters["fast"].as_str())
            .collect();
        assert_eq!(best, ["27", "26", "25"]);
        assert!(!found.ranking[0].parameters.contains_key("start"));
        assert_eq!(found.rounds[0].correlation, None);
        assert_eq!(found.rounds[1].correlation, Some(1.0));
    }

    #[test]
    fn failures_leave_the_race_and_are_kept() {
        let mut races = [race(&halving(r#", "samples": 6, "rungs": 2"#), true)];
        let mut round = 0;
        run(&mut races, TARGET, |_, items| {
            round += 1;
            let mut results = ended(items);
            if round == 1 {
                for result in results.iter_mut().skip(1) {
                    result.outcome = Err(Error::TimedOut("60 s".into()));
                }
            }
            Ok(results)
        })
        .unwrap();
        let [race] = races;
        let found = race.finish().unwrap();
        assert_eq!(found.misses.len(), 5);
        assert_eq!(
            found
                .rounds
                .iter()
                .map(|it| it.backtests)
                .collect::<Vec<_>>(),
            [6, 1]
        );
    }

    #[test]
    fn a_race_without_a_result_ends_alone() {
        let mut races = [race(&halving(""), true), race(&halving(""), true)];
        run(&mut races, TARGET, |_, items| {
            let half = items.len() / 2;
            let mut results = ended(items);
            if half == 27 {
                for result in results.iter_mut().take(half) {
                    result.outcome = Err(Error::Halted("by hand".into()));
                }
            }
            Ok(results)
        })
        .unwrap();
        let [one, other] = races;
        assert_eq!(
            one.finish().unwrap_err(),
            Failure::Capability(Error::Halted("by hand".into()))
        );
        assert_eq!(other.finish().unwrap().ranking.len(), 3);
    }

    #[test]
    fn halving_needs_a_window() {
        let space = space(r#"{"fast": [1, 2]}"#);
        let failure = Race::new(&halving(""), &space, None)
            .unwrap_err()
            .to_string();
        assert!(failure.contains("halving needs `window`"), "{failure}");
    }

    proptest! {
        #[test]
        fn no_search_runs_more_than_it_planned(samples in 1usize..27, rungs in 2u32..4, eta in 2u32..4, fails in 0usize..5) {
            let method = halving(&format!(", \"samples\": {samples}, \"rungs\": {rungs}, \"eta\": {eta}"));
            let mut races = [race(&method, true)];
            let planned = races[0].backtests();
            let mut started = 0;
            run(&mut races, TARGET, |_, items| {
                started += items.len();
                let mut results = ended(items);
                for result in results.iter_mut().take(fails) {
                    result.outcome = Err(Error::TimedOut("60 s".into()));
                }
                Ok(results)
            }).unwrap();
            prop_assert!(started <= planned);
            prop_assert!(fails > 0 || started == planned);
            let [race] = races;
            if let Ok(found) = race.finish() {
                prop_assert!(!found.ranking.is_empty());
            }
        }
    }
}
