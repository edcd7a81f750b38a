#!/usr/bin/env python3
"""Tables of docs/evaluation/published.md, rollout.md, accuracy.md and skewed.md from the CSV files of `terastal sweep`.

  evaluation.py merge part1.csv part2.csv > sweep.csv
  evaluation.py published --into docs/evaluation/published.md sweep.csv
  evaluation.py rollout --into docs/evaluation/rollout.md --also "Runs of 60 s=long.csv" sweep.csv
  evaluation.py accuracy --into docs/evaluation/accuracy.md --curves curves.json sweep.csv
  evaluation.py skewed --into docs/evaluation/skewed.md sweep.csv

Of several files, or shards of a grid, the rows are joined; the same row twice is an error. With --into
the tables take the places of those between the lines "<!-- table NAME -->" and "<!-- end NAME -->" of a
document, whose other text stays. Without it they are printed. Needs only Python's standard library.
"""
import argparse
import csv
import io
import json
import math
import re
import sys
import textwrap
from itertools import product
from statistics import fmean, stdev
from urllib.parse import unquote_plus

HEADER = ("scenario traffic scale load noise stalls drop policy seeds mean_miss_rate low high miss_bound "
          "normalized_accuracy accuracy_floor by_model by_seed").split()
NEWER = {"accuracy_floor": "0", "load": "nan", "stalls": ""}  # columns that older files lack, and what stands for them
BASELINES = ["fcfs", "edf", "dream"]
FOUR = BASELINES + ["terastal"]
ORDER = ["fifo", "triton-like", "triton-like-deadlines", "fcfs", "edf", "llf", "heft", "dream", "terastal",
         "terastal-novariants", "terastal-nobudgets", "terastal-budget", "pedf-novariants", "rollout-novariants",
         "pedf", "rollout"]
# Reductions of the miss rate that arXiv 2606.06818 publishes.
PUBLISHED = {"fcfs": "40.58 %", "edf": "30.53 %", "dream": "36.27 %"}
LOSSES = 20  # that published.md names


class Row:
    """One combination of a sweep under one policy."""

    def __init__(self, x):
        x = NEWER | x
        self.fields = [x[column] for column in HEADER]
        self.scenario, self.traffic, self.drop, self.policy = x["scenario"], x["traffic"], x["drop"], x["policy"]
        self.scale, self.noise, self.seeds = float(x["scale"]), float(x["noise"]), int(x["seeds"])
        self.miss, self.low, self.high = float(x["mean_miss_rate"]), float(x["low"]), float(x["high"])
        self.bound, self.accuracy = float(x["miss_bound"]), known(x["normalized_accuracy"])
        self.load, self.stalls = float(x["load"]), x["stalls"]
        self.floor = float(x["accuracy_floor"])
        self.models = []
        self.least, self.window = 1.0, 1.0  # of models: the accuracy held against the floor, and of 100 requests
        for pair in x["by_model"].split():
            name, numbers = pair.split("=")
            miss, *accuracies = numbers.split("/")  # mean, and with a floor: delivered, least window
            self.models.append((unquote_plus(name), float(miss)))
            self.least = lesser(self.least, known(accuracies[min(1, len(accuracies) - 1)]))
            self.window = lesser(self.window, known(accuracies[2]) if len(accuracies) > 2 else 1.0)
        self.by_seed = [float(s) for s in x["by_seed"].split()]

    def key(self):
        return self.scenario, self.traffic, self.scale, self.noise, self.stalls, self.drop

    def name(self):
        return f"{self.policy} at {self.floor:g}" if self.floor else self.policy


def lesser(a, b):
    """The lesser of two, unknown where one is."""
    return math.nan if math.isnan(a) or math.isnan(b) else min(a, b)


def known(text):
    return math.nan if text == "unknown" else float(text)


def read(paths):
    """Rows of all files, sorted; policies of a combination stay in their order."""
    rows, seen = [], set()
    for path in paths:
        with open(path, newline="") as f:
            lines = csv.reader(f)
            head = next(lines, None)
            if head is None or head != [c for c in HEADER if c in head or c not in NEWER]:
                sys.exit(f"{path}: not a file of this version's `terastal sweep --csv`: sweep again")
            for fields in lines:
                try:
                    row = Row(dict(zip(head, fields, strict=True)))
                except ValueError as e:
                    sys.exit(f"{path}, line {lines.line_num}: {e}")
                name = *row.key(), row.floor, row.policy
                if name in seen:
                    sys.exit(f"{path}, line {lines.line_num}: {', '.join(map(str, row.key()))}, {row.policy} "
                             f"{f'at {row.floor:g} ' if row.floor else ''}is there twice")
                seen.add(name)
                rows.append(row)
    return sorted(rows, key=Row.key)


class Group(dict):
    """The rows of one combination, by policy."""

    def best(self, policies):
        rows = [self[p] for p in policies if p in self]
        return min(rows, key=lambda r: r.miss) if rows else None


def groups(rows):
    out = {}
    for r in rows:
        out.setdefault(r.key(), Group())[r.name()] = r
    return list(out.values())


def first(group):
    return next(iter(group.values()))


def policies(gs):
    names = dict.fromkeys(p for g in gs for p in g)

    def rank(name):
        base, _, options = name.replace(" at ", ":").partition(":")
        at = ORDER.index(base) if base in ORDER else len(ORDER)
        return at + (len(ORDER) if options else 0)  # after what it changes
    return sorted(names, key=rank)


# Student's t distribution.

def survival(t, nu):
    """Probability of more than t."""
    return 0.5 * beta(nu / (nu + t * t), nu / 2, 0.5)


def beta(x, a, b):
    """Regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return min(1.0, max(0.0, x))
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1 - front / b * fraction(1 - x, b, a)
    return front / a * fraction(x, a, b)


def fraction(x, a, b):
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    f = d
    for m in range(1, 300):
        for k in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                  -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + k * d)
            c = 1 + k / c
            f *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return f


def quantile(p, nu):
    low, high = 0.0, 1e6
    for _ in range(200):
        mid = (low + high) / 2
        low, high = (mid, high) if survival(mid, nu) > 1 - p else (low, mid)
    return mid


def paired(a, b):
    """"won", "lost" or "tied" by a two-sided paired t test at 5 %, the mean difference, and p."""
    d = [x - y for x, y in zip(a, b)]
    mean, n = fmean(d), len(d)
    sd = stdev(d) if n > 1 else 0.0
    if n < 2 or sd == mean == 0:
        return "tied", mean, 1.0
    p = 0.0 if sd == 0 else 2 * survival(abs(mean) / (sd / math.sqrt(n)), n - 1)
    return "tied" if p > 0.05 else "won" if mean < 0 else "lost", mean, p


# Tables.

def rate(x):
    return "unknown" if math.isnan(x) else f"{x:.4f}"


def interval(xs):
    mean, n = fmean(xs), len(xs)
    half = quantile(0.975, n - 1) * stdev(xs) / math.sqrt(n) if n > 1 else 0.0
    return f"{rate(mean)} ({rate(mean - half)} to {rate(mean + half)})"


def table(head, rows):
    line = lambda cells: "|" + "".join(f" {c} |" if c else " |" for c in cells) + "\n"
    return line(head) + line(["---"] * len(head)) + "".join(map(line, rows))


def tally(verdicts):
    return " / ".join(str(verdicts.count(v)) for v in ("won", "lost", "tied"))


def published_size(gs):
    seeds = max(r.seeds for g in gs for r in g.values())
    return (f"{len(gs)} combinations of scenario, traffic, rate scale and drop policy, {len(policies(gs))} policies, "
            f"up to {seeds} seeds each.\n")


def standard(gs):
    """The published setting: given rates, late requests dropped, no noise."""
    return [g for g in gs if first(g).scale == 1 and first(g).noise == 0 and first(g).drop == "late"]


def published_reductions(gs):
    rows, sums = [], dict.fromkeys(FOUR, 0.0)
    gs = [g for g in standard(gs) if "terastal" in g]
    for g in gs:
        t = g["terastal"]
        row = [t.scenario, t.traffic, f"{rate(t.miss)} ({rate(max(0, t.low))} to {rate(t.high)})"]
        for base in BASELINES:
            r = g.get(base)
            cut = f"{100 * (1 - t.miss / r.miss):.0f} % " if r and r.miss > 0 else ""
            row.append(f"{cut}({rate(r.miss)})" if r else "-")
        rows.append(row + [rate(t.accuracy)])
        for p in FOUR:
            sums[p] += g[p].miss if p in g else 0
    if gs:
        rows.append(["**all of these**", "", rate(sums["terastal"] / len(gs))] +
                    [f"**{100 * (1 - sums['terastal'] / sums[b]):.0f} %** ({rate(sums[b] / len(gs))})"
                     if sums[b] else "-" for b in BASELINES] + [""])
    rows.append(["published, average", "unknown", ""] + [PUBLISHED[b] for b in BASELINES] +
                ["0.9776 over models with variants"])
    return table(["scenario", "traffic", "terastal", "against FCFS", "EDF", "DREAM", "normalised accuracy"], rows)


def published_policies(gs):
    names, rows = policies(gs), []
    for g in standard(gs):
        best, r = g.best(names), first(g)
        cells = [g[p] if p in g else None for p in names]
        rows.append([r.scenario, r.traffic] + ["-" if c is None else f"**{rate(c.miss)}**" if c.miss == best.miss
                                               else rate(c.miss) for c in cells])
    return table(["scenario", "traffic"] + names, rows)


def published_grid(gs):
    rows = []
    gs = [g for g in gs if g.best(BASELINES)]
    for p in policies(gs):
        some = [g for g in gs if p in g]
        verdicts = [paired(g[p].by_seed, g.best(BASELINES).by_seed)[0] for g in some]
        rows.append([p, rate(fmean(g[p].miss for g in some)), rate(fmean(g[p].accuracy for g in some)),
                     tally(verdicts)])
    if gs:
        rows.append(["the best of FCFS, EDF and DREAM in each", rate(fmean(g.best(BASELINES).miss for g in gs)), "", ""])
    return table(["policy", "mean miss rate", "normalised accuracy", "won / lost / tied"], rows)


def published_losses(gs):
    losses = []
    for g in gs:
        t, best = g.get("terastal"), g.best(BASELINES)
        if t and best:
            verdict, by, p = paired(t.by_seed, best.by_seed)
            if verdict == "lost":
                losses.append((by, p, t, best))
    losses.sort(key=lambda x: -x[0])
    rows = []
    for by, p, t, best in losses[:LOSSES]:
        name, a, b = max(((n, x, y) for (n, x), (_, y) in zip(t.models, best.models)), key=lambda x: x[1] - x[2])
        rows.append([t.scenario, t.traffic, f"{t.scale:g}", t.drop, rate(t.miss), f"{best.policy} {rate(best.miss)}",
                     f"{by:+.3f}", f"{p:.2g}", f"{name} {a:.2f} / {b:.2f}" if a > b else "-"])
    head = ["scenario", "traffic", "scale", "drop", "terastal", "best baseline", "difference", "p",
            "model that loses most"]
    return (f"{len(losses)} combinations, significantly, against the best of the three baselines; the {len(rows)} "
            f"worst:\n\n{table(head, rows)}")


def compared(title, gs):
    """Policies over combinations that have one of the four."""
    gs = [g for g in gs if g.best(FOUR)]
    if not gs:
        return ""
    seeds = first(gs[0]).seeds
    mean = lambda rows: [fmean(r.by_seed[s] for r in rows) for s in range(seeds)]
    rows = [["the best of four", interval(mean([g.best(FOUR) for g in gs])), "", "", "", ""]]
    for p in policies(gs):
        if any(p not in g for g in gs):
            continue
        tests = [paired(g[p].by_seed, g.best(FOUR).by_seed) for g in gs]
        worst = max(tests, key=lambda t: t[1])
        rows.append([p, interval(mean([g[p] for g in gs])), rate(fmean(g[p].accuracy for g in gs)),
                     tally([t[0] for t in tests]), f"{worst[1]:+.4f}", f"{worst[2]:.2g}"])
    head = ["policy", "mean miss rate, 95 % interval over seeds", "normalised accuracy", "won / lost / tied",
            "most above the best of four", "its p"]
    title = textwrap.fill(f"{title} ({len(gs)} combinations, {seeds} seeds each):", 120)
    return f"{title}\n\n{table(head, rows)}\n"


def rollout_combinations(gs, _):
    out = compared("No noise, requests dropped when late or when hopeless: the grid that the goals are about",
                   [g for g in gs if first(g).noise == 0 and first(g).drop != "none"])
    drops = ["none", "late", "hopeless"]
    for noise, drop in sorted({(first(g).noise, drops.index(first(g).drop)) for g in gs}):
        out += compared(f"Noise {100 * noise:.0f} %, drop {drops[drop]}",
                        [g for g in gs if first(g).noise == noise and first(g).drop == drops[drop]])
    return out.rstrip("\n") + "\n"


def rollout_scales(gs, _):
    gs = [g for g in gs if first(g).noise == 0 and first(g).drop == "late" and g.best(FOUR)]
    names = [p for p in policies(gs) if ":" not in p]
    by_scale = {}
    for g in gs:
        by_scale.setdefault((first(g).scenario, first(g).scale), []).append(g)
    rows = []
    for (scenario, scale), some in by_scale.items():
        mean = lambda p: rate(fmean(g[p].miss for g in some if p in g)) if any(p in g for g in some) else "-"
        rows.append([scenario, f"{scale:g}", rate(first(some[0]).bound), rate(fmean(g.best(FOUR).miss for g in some))] +
                    [mean(p) for p in names])
    return table(["scenario", "scale", "fluid bound", "the best of four"] + names, rows)


def rollout_losses(gs, _):
    rows = []
    for p in ("pedf", "rollout"):
        for g in gs:
            r, best = g.get(p), g.best(FOUR)
            if r and best:
                verdict, by, q = paired(r.by_seed, best.by_seed)
                if verdict == "lost":
                    rows.append([p, r.scenario, r.traffic, f"{r.scale:g}", f"{r.noise:g}", r.drop, rate(r.miss),
                                 f"{best.policy} {rate(best.miss)}", f"{by:+.4f}", f"{q:.2g}"])
    return table(["policy", "scenario", "traffic", "scale", "noise", "drop", "its miss rate", "best of four",
                  "difference", "p"], rows)


def rollout_others(_, others):
    return "".join(compared(title, gs) for title, gs in others).rstrip("\n") + "\n"


def rollout_guard(gs, others):
    rows = []
    for title, some in [("The grids of all combinations above", gs)] + others:
        gains = {4: [], 5: []}
        for g in some:
            if "rollout" in g and g.best(FOUR):
                for seed, x in enumerate(g["rollout"].by_seed):
                    for names in (FOUR, FOUR + ["pedf"]):
                        gains[len(names)].append(x - min([x] + [g[p].by_seed[seed] for p in names if p in g]))
        if gains[4]:
            rows.append([title, str(len(gains[4]))] + [cell for n in (4, 5) for cell in
                        (str(sum(x > 0 for x in gains[n])), f"{fmean(gains[n]):.5f}")])
    return table(["runs", "how many", "in which one of the four misses less", "gain with these",
                  "in which one of the four or pedf does", "gain with these"], rows)


# Accuracy spent for time.

FLOOR = 0.9776  # what the published method keeps, on the mean over models
EQUAL = 0.9  # the floor of every model at which the mean over models is about that


def accuracy_policies(gs):
    """Policies over all combinations, by noise."""
    head = ["policy", "mean miss rate, 95 % interval over seeds", "mean accuracy", "least of a model in a combination",
            "least of 100 requests", "won / lost / tied", "most above the best of four", "its p"]
    out = ""
    for noise in sorted({first(g).noise for g in gs}):
        some = [g for g in gs if first(g).noise == noise and g.best(FOUR)]
        rows = [["the best of four", interval(over_seeds([g.best(FOUR) for g in some])), "", "", "", "", "", ""]]
        for p in policies(some):
            mine = [g[p] for g in some if p in g]
            if len(mine) < len(some):
                continue
            tests = [paired(g[p].by_seed, g.best(FOUR).by_seed) for g in some]
            worst = max(tests, key=lambda t: t[1])
            least, window = math.inf, math.inf
            for r in mine:
                least, window = lesser(least, r.least), lesser(window, r.window)
            rows.append([p, interval(over_seeds(mine)), rate(fmean(r.accuracy for r in mine)), rate(least),
                         rate(window) if mine[0].floor else "-", tally([t[0] for t in tests]), f"{worst[1]:+.4f}",
                         f"{worst[2]:.2g}"])
        out += f"Noise {100 * noise:.0f} % ({len(some)} combinations, {first(some[0]).seeds} seeds each):\n\n"
        out += table(head, rows) + "\n"
    return out.rstrip("\n") + "\n"


def over_seeds(rows):
    return [fmean(r.by_seed[s] for r in rows) for s in range(rows[0].seeds)]


def accuracy_losses(gs):
    rows = []
    for p in (p for p in policies(gs) if " at " in p):
        for g in gs:
            r, best = g.get(p), g.best(FOUR)
            if r and best:
                verdict, by, q = paired(r.by_seed, best.by_seed)
                if verdict == "lost":
                    rows.append([p, r.scenario, r.traffic, f"{r.scale:g}", f"{r.noise:g}", r.drop, rate(r.miss),
                                 f"{best.name()} {rate(best.miss)}", f"{by:+.4f}", f"{q:.2g}"])
    return table(["policy", "scenario", "traffic", "scale", "noise", "drop", "its miss rate", "best of four",
                  "difference", "p"], rows)


def accuracy_goals(gs):
    rows = []
    for p, most in (("rollout", 0.060), ("pedf", 0.085)):
        for floor, noise in product((FLOOR, EQUAL), sorted({first(g).noise for g in gs})):
            name = f"{p} at {floor:g}"
            some = [g for g in gs if first(g).noise == noise and name in g and g.best(FOUR)]
            if not some:
                continue
            miss, least = fmean(g[name].miss for g in some), min(g[name].least for g in some)
            lost = sum(paired(g[name].by_seed, g.best(FOUR).by_seed)[0] == "lost" for g in some)
            what = f"{name}, noise {100 * noise:.0f} %"
            rows.append([f"{what}: mean miss rate at most {most:.4f}", rate(miss), met(miss <= most)])
            if floor == FLOOR:
                rows.append([f"{what}: accuracy of every model in every combination at least {FLOOR:g}", rate(least),
                             met(least >= FLOOR)])
            mean = fmean(g[name].accuracy for g in some)
            rows.append([f"{what}: mean accuracy at least {FLOOR:g}", rate(mean), met(mean >= FLOOR)])
            rows.append([f"{what}: no combination significantly worse than the best of four", f"{lost} of {len(some)}",
                         met(lost == 0)])
    return table(["goal", "simulated", "met"], rows)


def met(ok):
    return "yes" if ok else "no"


def curve_table(documents):
    """Loads sustained, by accuracy floor and limit, of documents of `terastal sweep curves`."""
    out = ""
    for c in documents:
        floors = []
        for x in c["curves"]:
            if "accuracy_floor" in x and x["accuracy_floor"] not in floors:
                floors.append(x["accuracy_floor"])
        rows = []
        for at, limit in enumerate([c["limit"]] + c.get("further_limits", [])):
            for p in dict.fromkeys(x["policy"] for x in c["curves"]):
                cells = {x.get("accuracy_floor"): sustained_load(x, at) for x in c["curves"] if x["policy"] == p}
                rows.append([f"{100 * limit:g} %", p, cells.get(None, "")] + [cells.get(f, "") for f in floors])
        runs = max(q["runs"] for x in c["curves"] for q in x["points"])
        title = f"{c['source'].rsplit('/', 1)[-1] if c['source'].endswith('.yaml') else c['source']} ({c['driver']}, " \
                f"{runs} runs of {c['duration_s']:g} s at each point):"
        out += f"{title}\n\n{table(['missed at most', 'policy', 'any floor'] + [f'{f:g}' for f in floors], rows)}\n"
        if c.get("invalid_reasons"):
            out += f"INVALID: {'; '.join(c['invalid_reasons'])}.\n\n"
    return out.rstrip("\n") + "\n" if out else table(["missed at most", "policy", "any floor"], [])


def sustained_load(curve, limit):
    crossing = curve if limit == 0 else curve["further"][limit - 1]
    scale = crossing.get("sustains")
    if scale is None:
        return "none of these"
    load = next(q["load"] for q in curve["points"] if q["scale"] == scale)
    return f"{load:.2f}" + ("" if "exceeds" in crossing else " or more")


# Unlike accelerators.

OURS = ["pedf", "rollout"]
CLEAR = 0.05  # of all comparisons of a policy together


def disturbance(r):
    """What of a combination is not as predicted."""
    noise = f"noise {100 * r.noise:.0f} %"
    return f"{noise}, stalls {r.stalls.replace('/', ' every ')}" if r.stalls else noise


def worse(a, b):
    """By how much a misses more than b in the mean over seeds, and the p value of a one-sided paired t test."""
    _, by, p = paired(a, b)
    return by, p / 2 if by > 0 else 1 - p / 2


def holm(ps):
    """p values adjusted for there being so many."""
    out, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        out[i] = most
    return out


class Pool:
    """Combinations that are compared together: mean miss rates by seed."""

    def __init__(self, name, gs):
        self.name = name
        self.by_seed = {p: over_seeds([g[p] for g in gs]) for p in gs[0] if all(p in g for g in gs)}


def pools(gs, key, name):
    by = {}
    for g in gs:
        by.setdefault(key(first(g)), []).append(g)
    return [Pool(name(first(some[0])), some) for some in by.values()]


def skewed_comparisons(some):
    """Of each of our policies with each other one in each pool: policy, pool, baseline, difference, p, adjusted p."""
    out = []
    for p in OURS:
        mine = [(p, pool, b, *worse(pool.by_seed[p], pool.by_seed[b])) for pool in some if p in pool.by_seed
                for b in pool.by_seed if b not in OURS]
        out += [(*c, q) for c, q in zip(mine, holm([c[-1] for c in mine]))]
    return out


def skewed_each(gs):
    return pools(gs, Row.key, lambda r: (r.scenario, r.traffic, f"{r.load:.2f}", disturbance(r)))


def skewed_losses(gs):
    by_load = pools(gs, lambda r: (r.scenario, r.scale), lambda r: (r.scenario, "all", f"{r.load:.2f}", "all"))
    head = ["policy", "system", "arrivals", "load", "not as predicted", "its miss rate", "misses less", "difference", "p",
            "p after Holm"]
    out = ""
    for title, some in [("By combination", skewed_each(gs)), ("Over arrivals and what is not as predicted", by_load)]:
        compared_ = skewed_comparisons(some)
        lost = sorted((c for c in compared_ if c[3] > 0 and c[4] < 0.025), key=lambda c: -c[3])
        rows = [[p, *pool.name, rate(fmean(pool.by_seed[p])), f"{b} {rate(fmean(pool.by_seed[b]))}", f"{by:+.4f}",
                 f"{q:.2g}", f"{adjusted:.2g}"] for p, pool, b, by, q, adjusted in lost]
        counts = [f"{p}: {sum(c[0] == p for c in compared_)} comparisons, {sum(c[0] == p for c in lost)} listed, "
                  f"{sum(c[0] == p and c[5] < CLEAR for c in lost)} clear" for p in OURS]
        out += f"{title}.\n" + "".join(f"{c}.\n" for c in counts) + f"\n{table(head, rows)}\n"
    return out.rstrip("\n") + "\n"


def skewed_policies(gs):
    """Policies over all systems, by what is not as predicted."""
    out = ""
    for what in dict.fromkeys(disturbance(first(g)) for g in gs):
        some = [g for g in gs if disturbance(first(g)) == what]
        others = [p for p in policies(some) if p not in OURS]
        rows = [["the best of the others", interval(over_seeds([g.best(others) for g in some])), "", "", ""]]
        for p in policies(some):
            mine = [g[p] for g in some if p in g]
            if len(mine) < len(some):
                continue
            tests = [paired(g[p].by_seed, g.best([o for o in others if o != p]).by_seed) for g in some]
            worst = max(tests, key=lambda t: t[1])
            rows.append([p, interval(over_seeds(mine)), rate(fmean(r.accuracy for r in mine)),
                         tally([t[0] for t in tests]), f"{worst[1]:+.4f}"])
        title = f"{what[0].upper()}{what[1:]} ({len(some)} combinations, {first(some[0]).seeds} seeds each):"
        out += f"{title}\n\n" + table(
            ["policy", "mean miss rate, 95 % interval over seeds", "mean accuracy", "won / lost / tied",
             "most above the best of the others"], rows) + "\n"
    return out.rstrip("\n") + "\n"


def skewed_loads(gs):
    gs = [g for g in gs if disturbance(first(g)) == "noise 30 %"]
    names, rows = policies(gs), []
    by = {}
    for g in gs:
        by.setdefault((first(g).scenario, first(g).scale), []).append(g)
    for (scenario, _), some in by.items():
        r = first(some[0])
        rows.append([scenario, f"{r.load:.2f}", rate(r.bound)] +
                    [rate(fmean(g[p].miss for g in some)) if all(p in g for g in some) else "-" for p in names])
    return table(["system", "load", "fluid bound"] + names, rows)


def skewed_goals(gs):
    rows = []
    for p, load, most in (("pedf", 0.6, 0.005), ("rollout", 0.6, 0.001), ("rollout", 0.8, 0.015)):
        for g in gs:
            r = first(g)
            if (r.scenario, r.traffic, disturbance(r)) == ("hw/h100-5nets", "poisson", "noise 30 %") and p in g and \
                    abs(r.load - load) < 1e-3:
                what = f"{p} at load {load:g} of {r.scenario}, Poisson, noise 30 %"
                rows.append([f"{what}: at most {most:g}", rate(g[p].miss), met(g[p].miss <= most)])
    all_ = skewed_comparisons(skewed_each(gs))
    for p in OURS:
        mine = [c for c in all_ if c[0] == p]
        lost = sum(c[3] > 0 and c[5] < CLEAR for c in mine)
        rows.append([f"{p} significantly worse than no other policy in any combination (Holm, 5 %)",
                     f"{lost} of {len(mine)}", met(lost == 0)])
    return table(["goal", "simulated", "met"], rows)


def write(tables, into):
    if not into:
        for name, text in tables.items():
            print(f"<!-- table {name} -->\n{text}<!-- end {name} -->\n")
        return
    with open(into) as f:
        document = f.read()
    for name, text in tables.items():
        place = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not place.search(document):
            sys.exit(f"{into} has no place for the table {name}: add the lines <!-- table {name} --> and "
                     f"<!-- end {name} -->")
        document = place.sub(lambda m: m[1] + text + m[2], document)
    with open(into, "w") as f:
        f.write(document)


def documents(paths):
    """Bodies of JSON documents."""
    out = []
    for path in paths:
        with open(path) as f:
            out.append(json.load(f)["body"])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["merge", "published", "rollout", "accuracy", "skewed"])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--into", metavar="DOCUMENT", help="the document to put the tables into")
    parser.add_argument("--also", metavar="TITLE=FILE", action="append", default=[],
                        help="another sweep that gets a table, for rollout")
    parser.add_argument("--curves", metavar="FILE", action="append", default=[],
                        help="a document of `terastal sweep curves`, for accuracy")
    args = parser.parse_args()
    rows = read(args.files)
    if args.what == "merge":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([HEADER] + [r.fields for r in rows])
        sys.stdout.write(out.getvalue())
        return
    gs = groups(rows)
    if args.what == "published":
        write({"size": published_size(gs), "reductions": published_reductions(gs), "policies": published_policies(gs),
               "grid": published_grid(gs), "losses": published_losses(gs)}, args.into)
        return
    if args.what == "accuracy":
        write({"policies": accuracy_policies(gs), "losses": accuracy_losses(gs), "goals": accuracy_goals(gs),
               "curves": curve_table(documents(args.curves))}, args.into)
        return
    if args.what == "skewed":
        write({"policies": skewed_policies(gs), "loads": skewed_loads(gs), "losses": skewed_losses(gs),
               "goals": skewed_goals(gs)}, args.into)
        return
    others = []
    for also in args.also:
        title, _, path = also.partition("=")
        others.append((title, groups(read([path]))))
    write({f.__name__.removeprefix("rollout_"): f(gs, others) for f in
           (rollout_combinations, rollout_scales, rollout_losses, rollout_others, rollout_guard)}, args.into)


if __name__ == "__main__":
    main()
