"""Writes tests/data/statistics.json: what scipy and numpy make of data that src/experiment/stats is tested on.

    pip install numpy scipy
    python models/train/statistics.py

Each figure comes by another way than the Rust takes: library routines, brute force, or a general optimizer.
"""

# The directory of a script is searched first, and this file has the name of a standard module that scipy
# imports by way of random: out with it.
import sys

sys.path.pop(0)

import json
from pathlib import Path

import numpy as np
from scipy import optimize, special, stats

TARGET = Path(__file__).resolve().parents[2] / "tests/data/statistics.json"
STATES = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256])
rng = np.random.default_rng(16)


def ln_gamma():
    return [[x, special.gammaln(x)] for x in [1e-3, 0.3, 0.5, 1, 1.5, 2, 3.7, 9.99, 10, 11, 100.5, 4096, 1e6]]


def student_t():
    return [[freedom, stats.t.ppf(0.975, freedom)] for freedom in [1, 2, 3, 4, 5, 8, 13, 30, 41, 100, 217]]


def binomial():
    cases = [(k, n, p) for n in [1, 5, 20, 333, 2000] for p in [1e-3, 0.2, 0.5, 0.97] for k in {0, n // 5, n // 2, n - 1}]
    return [[k, n, p, stats.binom.cdf(k, n, p)] for k, n, p in sorted(cases)]


def mcnemar():
    grid = [(b, c) for b in range(0, 12) for c in range(0, 12) if b + c]
    large = [(46, 46), (68, 18), (18, 68), (100, 141), (3, 250), (1000, 1100)]
    return [[b, c, stats.binomtest(b, b + c, 0.5).pvalue] for b, c in grid + large]


def wilson():
    cases = [(k, n) for n in [1, 2, 3, 10, 57, 328, 5000] for k in sorted({0, 1, n // 3, n // 2, n - 1, n})]
    intervals = [stats.binomtest(k, n).proportion_ci(0.95, method="wilson") for k, n in cases]
    return [[k, n, i.low, i.high] for (k, n), i in zip(cases, intervals)]


def summaries():
    found = []
    for values in [[3.0], [2.0, -1.0], rng.normal(size=7), rng.exponential(size=100), rng.integers(0, 4, size=41)]:
        values = np.round(np.asarray(values, float), 6)
        found.append({
            "values": values.tolist(),
            "mean": values.mean(),
            "rms": np.sqrt((values**2).mean()),
            "quantiles": np.quantile(values, [0, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999, 1]).tolist(),
        })
    return found


def paired():
    """Mean and standard error of the +1, 0, −1 of each question; the same with a +1 and a −1 more."""
    found = []
    for n, lost, won in [(1, 0, 0), (10, 0, 0), (98, 0, 0), (99, 0, 0), (328, 0, 0), (5000, 0, 0), (100, 1, 0), (100, 0, 1),
                         (40, 40, 0), (40, 0, 40), (328, 4, 2), (328, 12, 9), (1000, 46, 46), (1000, 68, 18), (4000, 15, 0)]:
        change = np.repeat([-1.0, 1.0, 0.0], [lost, won, n - lost - won])
        more = np.append(change, [-1.0, 1.0])
        error = lambda d: d.std() / np.sqrt(len(d))

        def low(d, more, tail):
            z = round(stats.norm.ppf(1 - tail), 6)
            ends = [d.mean() - z * error(d), more.mean() - z * error(more)]
            if not d.any():
                ends.append(-stats.beta.ppf(1 - tail, 1, n))  # Clopper and Pearson, no hit
            return max(min(ends), -1.0)

        found.append({
            "n": n, "lost": lost, "won": won,
            "error": error(change),
            "difference": [change.mean(), low(change, more, 0.025), -low(-change, -more, 0.025)],
            "lower_bound": low(change, more, 0.05),
            "plain_lower_bound": change.mean() - 1.644854 * error(change),
        })
    return found


def hinges():
    """Multistart of a general nonlinear fit, and the better of it and a fine grid."""
    hinge = lambda x, c, s, t: c + s * np.maximum(0.0, t - x)
    x = np.log2(STATES)
    found = []
    for knee in [2.3, 3.0, 3.6, 4.0, 4.4, 5.5]:
        for noise in [0.02, 0.2]:
            y = np.round(hinge(x, 0.05, 1.2, knee) + rng.normal(scale=noise, size=len(x)), 6)
            best = (np.inf, None)
            for start in np.linspace(1.2, 7.8, 40):
                try:
                    p, _ = optimize.curve_fit(hinge, x, y, p0=[y[-1], 1.0, start], xtol=1e-14, ftol=1e-14, maxfev=20000)
                except RuntimeError:
                    continue
                # below the second point bends cannot be told apart
                best = min(best, (float(((hinge(x, *p) - y) ** 2).sum()), float(max(p[2], x[1]))))
            found.append({"x": x.tolist(), "y": y.tolist(), "knee": best[1], "error": best[0]})
    return found


def laws():
    found = []
    for noise in [0.05, 0.4]:
        grid = [(n, bits) for n in [135_000_000, 360_000_000, 600_000_000, 1_700_000_000] for bits in [2.5, 3.1, 4.5, 5.25]]
        grid = grid[:-1]  # not balanced
        n, bits = np.array(grid).T
        damage = np.exp(9 - 0.45 * np.log(n) - bits / 0.8 + rng.normal(scale=noise, size=len(n)))
        design = lambda rows: np.column_stack([np.ones(len(rows)), np.log(n[rows]), bits[rows]])
        everything, y = np.arange(len(n)), np.log(damage)
        solve = lambda rows: np.linalg.lstsq(design(rows), y[rows], rcond=None)[0]
        fit = solve(everything)
        residual = y - design(everything) @ fit
        freedom = len(n) - 3
        covariance = np.linalg.inv(design(everything).T @ design(everything)) * (residual @ residual) / freedom
        half = stats.t.ppf(0.975, freedom) * np.sqrt(np.diag(covariance))
        held_out = []
        for size in sorted(set(n)):
            out, rest = everything[n == size], everything[n != size]
            held_out.append([int(size), y[out].mean(), (design(out) @ solve(rest)).mean()])
        found.append({
            "points": [[int(a), b, c] for a, b, c in zip(n, bits, damage)],
            "ln_c": fit[0],
            "a": [-fit[1], -fit[1] - half[1], -fit[1] + half[1]],
            "gamma": [-1 / fit[2], 1 / (-fit[2] + half[2]), 1 / (-fit[2] - half[2])],
            "r_squared": 1 - (residual @ residual) / ((y - y.mean()) ** 2).sum(),
            "held_out": held_out,
        })
    return found


def step_errors():
    found = []
    for cells in [[(1, 38, 40), (2, 37, 40), (4, 30, 40), (8, 25, 40)], [(3, 9, 10)], [(1, 5, 50), (2, 0, 50)],
                  [(k, round(200 * 0.99**k), 200) for k in range(1, 9)]]:
        k, right, n = np.array(cells).T
        loss = lambda e: -stats.binom.logpmf(right, n, (1 - e) ** k).sum()
        value = optimize.minimize_scalar(loss, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-13}).x
        # exactly what Rust takes for χ²'s 95% quantile
        excess = lambda e: loss(e) - loss(value) - 3.841459 / 2
        ends = [optimize.brentq(excess, 1e-12, value, xtol=1e-14), optimize.brentq(excess, value, 1 - 1e-9, xtol=1e-14)]
        found.append({"cells": cells, "error": [value, *ends]})
    return found


def survivals():
    """Kaplan and Meier by scipy: a text that differs at token d falls at d + 1."""
    found = []
    for size in [6, 40]:
        length = rng.integers(5, 60, size=size)
        diverged = rng.geometric(0.03, size=size) - 1
        texts = [[int(d) if d < l else None, int(l)] for d, l in zip(diverged, length)]
        data = stats.CensoredData(uncensored=[d + 1 for d, _ in texts if d is not None], right=[l for d, l in texts if d is None])
        sf = stats.ecdf(data).sf
        falls = [(t, s) for t, s in zip(sf.quantiles, sf.probabilities) if any(d is not None and d + 1 == t for d, _ in texts)]
        found.append({"texts": texts, "falls": [[int(t), float(s)] for t, s in falls]})
    return found


def main():
    made = [ln_gamma, student_t, binomial, mcnemar, wilson, summaries, paired, hinges, laws, step_errors, survivals]
    facts = {"made_by": f"models/train/statistics.py, scipy {sys.modules['scipy'].__version__}, numpy {np.__version__}"}
    facts |= {f.__name__: f() for f in made}
    lines = [f"{json.dumps(name)}: {json.dumps(value, default=float)}" for name, value in facts.items()]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
