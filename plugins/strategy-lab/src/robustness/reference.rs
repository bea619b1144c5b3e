//! The statistics against an independent implementation in Python: `tests/reference/statistics.py`, with NumPy, SciPy and
//! pandas of `.venv/numerics`, which `make setup-test` installs.
//!
//! Invariant: both sides get the same numbers, and agree to 1e-9 of their size, or of 1 where they are smaller.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Span;
use jiff::civil::{Date, date};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use serde_json::{Value, json};

use super::monte_carlo::Quantiles;
use super::sensitivity::Trial;
use super::sharpe::{Sharpe, expected_maximum};
use super::stress::Trade;
use super::walk_forward::{Kind, Plan};
use super::{moments, monte_carlo, normal, overfitting, sensitivity, stress, walk_forward};

/// Normal noise with the standard deviation 1, by inverting the distribution.
pub(super) fn noise(seed: u64, length: usize) -> Vec<f64> {
    let mut generator = Pcg32::new(seed, 7);
    let uniform = |draw: u32| (f64::from(draw) + 0.5) / 4_294_967_296.0;
    (0..length)
        .map(|_| normal::quantile(uniform(generator.next_u32())))
        .collect()
}

/// Returns of a day: a mean of 0.05 %, a standard deviation of 1 %, and a tail to the left.
fn returns(seed: u64, length: usize) -> Vec<f64> {
    let skewed = |it: &f64| 0.0005 + 0.01 * it - 0.002 * (it * it - 1.0);
    noise(seed, length).iter().map(skewed).collect()
}

/// What Python answers to each case.
fn reference(cases: &[Value]) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = folder.join("../../.venv/numerics/bin/python");
    assert!(
        python.exists(),
        "{} is missing; run: make setup-test",
        python.display()
    );
    let mut child = Command::new(python)
        .arg(folder.join("tests/reference/statistics.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(&serde_json::to_vec(cases).unwrap())
        .unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    answers
}

#[track_caller]
fn assert_close(ours: &[f64], theirs: &Value) {
    let theirs: Vec<f64> = match theirs {
        Value::Array(numbers) => numbers.iter().map(|it| it.as_f64().unwrap()).collect(),
        number => vec![number.as_f64().unwrap()],
    };
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let difference = (ours - theirs).abs() / theirs.abs().max(1.0);
        assert!(difference <= 1e-9, "{ours} and {theirs}");
    }
}

#[test]
fn the_normal_distribution() {
    let x: Vec<f64> = (-80..=80).map(|step| f64::from(step) / 10.0).collect();
    let mut p: Vec<f64> = (1..200).map(|step| f64::from(step) / 200.0).collect();
    p.extend([1e-300, 1e-100, 1e-20, 1e-12, 1e-6, 1.0 - 1e-6, 1.0 - 1e-12]);
    let answers = reference(&[json!({"statistic": "normal", "x": x, "p": p})]);
    let ours = |of: fn(f64) -> f64, at: &[f64]| at.iter().map(|it| of(*it)).collect::<Vec<_>>();
    assert_close(&ours(normal::cdf, &x), &answers[0]["cdf"]);
    assert_close(&ours(normal::quantile, &p), &answers[0]["quantile"]);
    // Of the probabilities in the lower tail the size counts as well.
    for (x, theirs) in x.iter().zip(answers[0]["cdf"].as_array().unwrap()) {
        let share = normal::cdf(*x) / theirs.as_f64().unwrap();
        assert!((share - 1.0).abs() < 1e-12, "{x}: {share}");
    }
}

#[test]
fn moments_of_samples() {
    let samples: Vec<Vec<f64>> = [2, 3, 10, 250, 2_500]
        .into_iter()
        .zip(1..)
        .map(|(length, seed)| returns(seed, length))
        .chain([vec![1e3 + 0.1, 1e3 + 0.2, 1e3 + 0.4, 1e3]])
        .collect();
    let case = |values: &Vec<f64>| json!({"statistic": "moments", "values": values});
    let answers = reference(&samples.iter().map(case).collect::<Vec<_>>());
    for (values, answer) in samples.iter().zip(&answers) {
        let ours = moments::moments(values).unwrap();
        assert_close(&[ours.mean], &answer["mean"]);
        assert_close(&[ours.sd], &answer["sd"]);
        assert_close(&[ours.skewness], &answer["skewness"]);
        assert_close(&[ours.kurtosis], &answer["kurtosis"]);
    }
}

#[test]
fn sharpe_ratios() {
    let settings: Vec<(Vec<f64>, u32, f64)> = (1..12u32)
        .map(|seed| {
            let length = 20 * seed as usize;
            (
                returns(seed.into(), length),
                2 + seed.pow(5),
                0.001 * f64::from(seed),
            )
        })
        .collect();
    let benchmark = -0.5;
    let case = |(values, trials, variance): &(Vec<f64>, u32, f64)| {
        json!({
            "statistic": "sharpe", "values": values, "benchmark": benchmark, "trials": trials, "variance": variance,
            "confidence": 0.95,
        })
    };
    let answers = reference(&settings.iter().map(case).collect::<Vec<_>>());
    for ((values, trials, variance), answer) in settings.iter().zip(&answers) {
        let ours = Sharpe::of(&moments::moments(values).unwrap());
        assert_close(
            &[ours.probabilistic(benchmark).unwrap()],
            &answer["probabilistic"],
        );
        assert_close(
            &[expected_maximum(*trials, *variance).unwrap()],
            &answer["expected_maximum"],
        );
        assert_close(
            &[ours.deflated(*trials, *variance).unwrap()],
            &answer["deflated"],
        );
        let length = ours.minimum_track_record(benchmark, 0.95).unwrap();
        assert_close(&[length], &answer["minimum_track_record"]);
    }
}

#[test]
fn the_probability_of_backtest_overfitting() {
    let cases: Vec<(Vec<Vec<f64>>, u32)> = [
        (2, 40, 2),
        (3, 61, 4),
        (10, 250, 8),
        (25, 500, 10),
        (6, 333, 12),
    ]
    .into_iter()
    .zip(0u64..)
    .map(|((strategies, rows, splits), case)| {
        let columns = (0..strategies).map(|column| returns(1 + 100 * case + column, rows));
        (columns.collect(), splits)
    })
    .collect();
    let case = |(columns, splits): &(Vec<Vec<f64>>, u32)| json!({"statistic": "overfitting", "columns": columns, "splits": splits});
    let answers = reference(&cases.iter().map(case).collect::<Vec<_>>());
    for ((columns, splits), answer) in cases.iter().zip(&answers) {
        let ours = overfitting::overfitting(columns, *splits).unwrap();
        assert_close(&[ours.probability], &answer["probability"]);
        assert_close(&[ours.mean_logit], &answer["mean_logit"]);
        assert_close(&[ours.combinations as f64], &answer["combinations"]);
        assert_close(&[ours.probability_of_loss], &answer["probability_of_loss"]);
        let line = ours.degradation.unwrap();
        assert_close(&[line.slope], &answer["slope"]);
        assert_close(&[line.intercept], &answer["intercept"]);
        assert_close(&[line.r_squared], &answer["r_squared"]);
    }
}

#[test]
fn the_neighbours_of_the_optimum() {
    let trials: Vec<Trial> = [5, 10, 20, 100]
        .into_iter()
        .flat_map(|fast| [50, 200, 1_000].map(|slow| (fast, slow)))
        .zip(noise(5, 12))
        .map(|((fast, slow), value)| Trial {
            parameters: [("fast", fast), ("slow", slow)]
                .map(|(name, value): (&str, i32)| (name.to_owned(), value.to_string()))
                .into(),
            value,
        })
        .collect();
    let parameters: Vec<_> = trials.iter().map(|it| &it.parameters).collect();
    let values: Vec<f64> = trials.iter().map(|it| it.value).collect();
    let case = json!({"statistic": "sensitivity", "parameters": parameters, "values": values, "tolerance": 0.2});
    let answer = &reference(&[case])[0];
    let ours = sensitivity::sensitivity(&trials, 0.2).unwrap();
    assert_close(&[ours.optimum], &answer["optimum"]);
    assert_close(&[ours.neighbours as f64], &answer["neighbours"]);
    assert_close(&[ours.mean], &answer["mean"]);
    assert_close(&[ours.worst], &answer["worst"]);
    assert_close(&[ours.drop.unwrap()], &answer["drop"]);
    assert_close(&[ours.share_above], &answer["share_above"]);
}

#[test]
fn the_same_trades_in_the_same_orders() {
    let (length, runs, seed) = (37, 60, 0x1234_5678_9abc_def0);
    let answer = &reference(&[
        json!({"statistic": "sequences", "seed": seed, "length": length, "runs": runs}),
    ])[0];
    let permutations: Vec<Vec<usize>> = monte_carlo::permutations(seed, length, runs).collect();
    let bootstraps: Vec<Vec<usize>> = monte_carlo::bootstraps(seed, length, runs).collect();
    assert_eq!(json!(permutations), answer["permutations"]);
    assert_eq!(json!(bootstraps), answer["bootstraps"]);

    let profits: Vec<f64> = noise(6, length).iter().map(|it| 5.0 + 40.0 * it).collect();
    let settings: Vec<(f64, Vec<Vec<usize>>)> = [100.0, 2_000.0]
        .into_iter()
        .flat_map(|start| [(start, permutations.clone()), (start, bootstraps.clone())])
        .collect();
    let case = |(start, sequences): &(f64, Vec<Vec<usize>>)| json!({"statistic": "monte_carlo", "profits": profits, "start": start, "sequences": sequences});
    let answers = reference(&settings.iter().map(case).collect::<Vec<_>>());
    for ((start, sequences), answer) in settings.into_iter().zip(&answers) {
        let ours = monte_carlo::run(&profits, start, sequences.into_iter()).unwrap();
        let list = |it: Quantiles| [it.q01, it.q05, it.q25, it.q50, it.q75, it.q95, it.q99];
        assert_close(&list(ours.drawdown), &answer["drawdown"]);
        assert_close(&list(ours.profit), &answer["profit"]);
        assert_close(&[ours.share_of_losses], &answer["share_of_losses"]);
        assert_close(&[ours.share_of_ruins], &answer["share_of_ruins"]);
    }
}

#[test]
fn costs_and_slippage() {
    let rows: Vec<[f64; 3]> = noise(7, 80)
        .iter()
        .map(|it| [6.0 + 10.0 * it, 0.5 + it.abs(), 1_000.0 * (1.0 + it.abs())])
        .collect();
    let trades: Vec<Trade> = rows
        .iter()
        .map(|[profit, fees, traded]| Trade {
            profit: *profit,
            fees: *fees,
            traded: Some(*traded),
        })
        .collect();
    let answer = &reference(&[json!({"statistic": "stress", "trades": rows})])[0];
    let ours = stress::stress(&trades).unwrap();
    let list = |levels: &[stress::Level]| levels.iter().map(|it| it.net_profit).collect::<Vec<_>>();
    assert_close(&list(&ours.fees), &answer["fees"]);
    assert_close(&list(&ours.slippage), &answer["slippage"]);
    assert_close(&[ours.break_even_fees.unwrap()], &answer["break_even_fees"]);
    assert_close(
        &[ours.break_even_slippage.unwrap()],
        &answer["break_even_slippage"],
    );
    assert_close(
        &[ours.break_even_per_trade],
        &answer["break_even_per_trade"],
    );
}

#[test]
fn walking_forward() {
    let first = date(2020, 2, 27);
    let dates: Vec<Date> = (0..1_000)
        .map(|day| first + Span::new().days(day))
        .collect();
    let columns: Vec<Vec<f64>> = (0..7)
        .map(|column| returns(300 + column, dates.len()))
        .collect();
    let plans = [Kind::Rolling, Kind::Anchored].map(|kind| Plan {
        kind,
        in_sample_days: 300,
        out_of_sample_days: 60,
        step_days: Some(75),
    });
    let case = |plan: &Plan| {
        json!({
            "statistic": "walk_forward", "first": first, "columns": columns, "kind": plan.kind,
            "in_sample_days": plan.in_sample_days, "out_of_sample_days": plan.out_of_sample_days, "step_days": plan.step_days,
        })
    };
    let answers = reference(&plans.iter().map(case).collect::<Vec<_>>());
    for (plan, answer) in plans.iter().zip(&answers) {
        let windows = walk_forward::windows(first, *dates.last().unwrap(), plan).unwrap();
        let ours = walk_forward::walk_forward(&dates, &columns, &windows).unwrap();
        let strategies: Vec<usize> = ours.windows.iter().map(|it| it.strategy).collect();
        assert_eq!(json!(strategies), answer["strategies"]);
        let inside: Vec<f64> = ours.windows.iter().map(|it| it.in_sample_return).collect();
        let outside: Vec<f64> = ours
            .windows
            .iter()
            .map(|it| it.out_of_sample_return)
            .collect();
        assert_close(&inside, &answer["in_sample"]);
        assert_close(&outside, &answer["out_of_sample"]);
        assert_close(&[ours.in_sample_return], &answer["in_sample_return"]);
        assert_close(
            &[ours.out_of_sample_return],
            &answer["out_of_sample_return"],
        );
        assert_close(&[ours.efficiency.unwrap()], &answer["efficiency"]);
    }
}
