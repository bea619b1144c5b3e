"""The statistics of strategy-lab, computed a second time from the definitions alone, with NumPy, SciPy and pandas.

Reads a JSON list of cases from standard input and writes the list of answers. A case is an object with "statistic", the name
of a function below, and its arguments.
"""

import itertools
import json
import sys

import numpy as np
import pandas as pd
from scipy import stats


def normal(x, p):
    return {"cdf": stats.norm.cdf(x).tolist(), "quantile": stats.norm.ppf(p).tolist()}


def moments(values):
    series = pd.Series(values)
    return {
        "mean": series.mean(),
        "sd": series.std(),
        "skewness": stats.skew(series),
        "kurtosis": stats.kurtosis(series, fisher=False),
    }


def sharpe(values, benchmark, trials, variance, confidence):
    returns = np.asarray(values)
    ratio = returns.mean() / returns.std(ddof=1)
    skew, kurt = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    # The standard error of the ratio without the factor 1 / sqrt(T - 1).
    error = np.sqrt(1 - skew * ratio + (kurt - 1) / 4 * ratio**2)

    def psr(of):
        return stats.norm.cdf((ratio - of) * np.sqrt(len(returns) - 1) / error)

    gamma = np.euler_gamma
    expected = np.sqrt(variance) * (
        (1 - gamma) * stats.norm.isf(1 / trials) + gamma * stats.norm.isf(1 / (trials * np.e))
    )
    return {
        "probabilistic": psr(benchmark),
        "expected_maximum": expected,
        "deflated": psr(expected),
        "minimum_track_record": 1 + error**2 * (stats.norm.ppf(confidence) / (ratio - benchmark)) ** 2,
    }


def overfitting(columns, splits):
    table = np.asarray(columns).T
    table = table[len(table) % splits :]
    blocks = np.split(table, splits)
    chosen, logits = [], []
    for sample in itertools.combinations(range(splits), splits // 2):
        rest = [block for block in range(splits) if block not in sample]
        inside = np.concatenate([blocks[block] for block in sample])
        outside = np.concatenate([blocks[block] for block in rest])
        before = inside.mean(axis=0) / inside.std(axis=0, ddof=1)
        after = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        best = np.argmax(before)
        omega = stats.rankdata(after)[best] / (table.shape[1] + 1)
        logits.append(np.log(omega / (1 - omega)))
        chosen.append((before[best], after[best]))
    chosen = pd.DataFrame(chosen, columns=["before", "after"])
    line = stats.linregress(chosen["before"], chosen["after"])
    return {
        "probability": np.mean(np.array(logits) <= 0),
        "mean_logit": np.mean(logits),
        "combinations": len(logits),
        "probability_of_loss": (chosen["after"] < 0).mean(),
        "slope": line.slope,
        "intercept": line.intercept,
        "r_squared": line.rvalue**2,
    }


def sensitivity(parameters, values, tolerance):
    table = pd.DataFrame(parameters).apply(pd.to_numeric)
    # The place of each value on the grid of its parameter.
    places = table.rank(method="dense")
    best = int(np.argmax(values))
    distance = (places - places.loc[best]).abs()
    near = pd.Series(values)[distance.sum(axis=1) == 1]
    optimum = values[best]
    return {
        "optimum": optimum,
        "neighbours": len(near),
        "mean": near.mean(),
        "worst": near.min(),
        "drop": (optimum - near.mean()) / abs(optimum),
        "share_above": (near >= optimum - tolerance * abs(optimum)).mean(),
    }


def pcg32(state, stream):
    """PCG-XSH-RR 64/32 as its paper describes it."""
    mask = 2**64 - 1
    multiplier, increment = 6364136223846793005, (stream << 1 | 1) & mask
    state = ((state + increment) * multiplier + increment) & mask
    while True:
        word = ((state >> 18 ^ state) >> 27) & 0xFFFFFFFF
        turn = state >> 59
        state = (state * multiplier + increment) & mask
        yield (word >> turn | word << (32 - turn)) & 0xFFFFFFFF


def below(generator, bound):
    while True:
        product = next(generator) * bound
        if product % 2**32 >= 2**32 % bound:
            return product // 2**32


def sequences(seed, length, runs):
    generator = pcg32(seed, 1)
    permutations = []
    for _ in range(runs):
        order = list(range(length))
        for at in range(length - 1, 0, -1):
            other = below(generator, at + 1)
            order[at], order[other] = order[other], order[at]
        permutations.append(order)
    generator = pcg32(seed, 2)
    return {
        "permutations": permutations,
        "bootstraps": [[below(generator, length) for _ in range(length)] for _ in range(runs)],
    }


def monte_carlo(profits, start, sequences):
    profits = np.asarray(profits)[np.asarray(sequences)]
    sums = profits.cumsum(axis=1)
    equity = np.hstack([np.full((len(sums), 1), start), start + sums])
    peaks = np.maximum.accumulate(equity, axis=1)
    drawdowns = ((peaks - equity) / peaks).max(axis=1)
    levels = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    return {
        "drawdown": np.quantile(drawdowns, levels).tolist(),
        "profit": np.quantile(sums[:, -1], levels).tolist(),
        "share_of_losses": (sums[:, -1] < 0).mean(),
        "share_of_ruins": (equity.min(axis=1) <= 0).mean(),
    }


def stress(trades):
    table = pd.DataFrame(trades, columns=["profit", "fees", "traded"])
    gross, fees, traded = table.sum()
    net = (table["profit"] - table["fees"]).sum()
    return {
        "fees": [gross - factor * fees for factor in (0, 1, 1.5, 2, 3, 5)],
        "slippage": [net - points / 10_000 * traded for points in (1, 2, 5, 10, 20, 50)],
        "break_even_fees": gross / fees,
        "break_even_slippage": net / traded * 10_000,
        "break_even_per_trade": net / len(table),
    }


def walk_forward(first, columns, kind, in_sample_days, out_of_sample_days, step_days):
    table = pd.DataFrame(columns).T
    table.index = pd.date_range(first, periods=len(table))
    day = pd.Timedelta(days=1)

    def annual(returns, days):
        return (1 + returns).prod() ** (365.25 / days) - 1

    def length(period):
        return (period[1] - period[0]) / day + 1

    results, inside, outside, days = [], [], [], [0, 0]
    shift = 0
    while True:
        proof = table.index[0] + (shift + in_sample_days) * day
        after = (proof, proof + (out_of_sample_days - 1) * day)
        if after[1] > table.index[-1]:
            break
        before = (table.index[0] + (shift * day if kind == "rolling" else 0 * day), proof - day)
        sample = table.loc[before[0] : before[1]]
        best = int((sample.mean() / sample.std()).argmax())
        inside.append(sample[best])
        outside.append(table.loc[after[0] : after[1], best])
        days = [days[0] + length(before), days[1] + length(after)]
        results.append((best, annual(inside[-1], length(before)), annual(outside[-1], length(after))))
        shift += step_days
    before, after = annual(pd.concat(inside), days[0]), annual(pd.concat(outside), days[1])
    return {
        "strategies": [best for best, _, _ in results],
        "in_sample": [value for _, value, _ in results],
        "out_of_sample": [value for _, _, value in results],
        "in_sample_return": before,
        "out_of_sample_return": after,
        "efficiency": after / before if before > 0 else None,
    }


def answer(case):
    return globals()[case.pop("statistic")](**case)


def plain(value):
    """A NumPy number as JSON has it."""
    return value.item()


json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout, default=plain)
