"""The goals that check.py holds what it measured against."""
from results import middle

# The networks whose chains are measured, with the goals: the chain over an ordinary session, and over one graph.
GOALS = {
    "ds_cnn_kws": (0.55, 1.2),
    "glyph_resnet": (0.75, 1.2),
    "mobilenetv2": (0.65, 1.35),
    "resnet50": (0.97, 1.04),
}


def rows(provider, nets, f):
    """What was asked for: name, value as text, goal, and whether it is met (None: not measured)."""
    table = []

    def row(name, value, goal, good, text="{:.2f}"):
        missing = value is None
        table.append((name, "-" if missing else text.format(value), goal, None if missing else bool(good)))

    def at_most(name, value, most, text="{:.2f}", goal=None):
        row(name, value, goal or "<= " + text.format(most), value is not None and value <= most, text)

    outputs = f.get("outputs")
    row("outputs that are wrong", outputs and outputs["wrong"], "0 of %d" % (outputs["sampled"] if outputs else 0),
        outputs and outputs["wrong"] == 0 and outputs["sampled"] > 0, "{:d}")
    for network in nets:
        of_whole, of_graph = GOALS.get(network, (1, 1.2))
        k = f.get("chains", {}).get(network)
        if provider == "webgpu":
            at_most(f"chain over whole, {network}", k and k["chain_us"] / k["whole_us"], 1.3)
            continue
        bare = k["bare"] if k else {}
        whole = bare.get("whole") or (k or {}).get("whole_us")
        graphs = [v for w, v in bare.items() if w in ("whole graph", "whole captured")]
        best = min((v for w, v in bare.items() if w.startswith("chain")), default=None)
        at_most(f"chain over ordinary whole, {network}", k and whole and k["chain_us"] / whole, of_whole)
        at_most(f"chain over whole as one graph, {network}", k["chain_us"] / min(graphs) if graphs else None, of_graph)
        at_most(f"chain over chain.c's best, {network}", k and best and k["chain_us"] / best, 1.10)
    ours = f.get("streams", {}).get("terastal", {})
    if provider != "webgpu":
        for n, least in ((4, 3), (8, 4.5)):
            gain = ours[n] / ours[1] if n in ours and 1 in ours else None
            row(f"requests of {n} streams over one", gain, f">= {least}", gain and gain >= least)
        bare = [per_s[4] for who, per_s in f.get("streams", {}).items() if who != "terastal" and 4 in per_s]
        gain = ours[4] / max(bare) if bare and 4 in ours else None
        row("requests of 4 streams over chain.c's best 4", gain, ">= 0.9", gain and gain >= 0.9)
    one_queue = provider == "webgpu"
    for n, label in ((1, "load 0.6"), (4, "same rates"), (4, "load 0.6")):
        if n > 1 and one_queue:
            continue
        run = f.get(f"mixed-{n}", {}).get("runs", {}).get(label, {})
        for p in ("pedf", "rollout"):
            at_most(f"misses in %, {p}, gpu with {n} stream(s), {label}", run.get("misses", {}).get(p), 2.0)
    for n in (1,) if one_queue else (1, 4):
        stalls = f.get(f"mixed-{n}", {}).get("runs", {}).get("load 0.6", {}).get("stalls", {})
        worst = max(stalls.values(), default=None)
        at_most(f"first uses and stalls, % of a run, {n} stream(s)", worst if worst is None else 100 * worst, 1.0)
    g = f.get("gaps", {})
    if g.get("with") and g.get("without") and None not in g["with"] + g["without"]:
        noise = max(1.25, max(g["without"]) / min(g["without"]))
        at_most("gap p99 of CPU accelerators, with the GPU over without",
                middle(g["with"]) / middle(g["without"]), noise)
    else:
        at_most("gap p99 of CPU accelerators, with the GPU over without", None, 1.25)
    replayed = f.get("replayed")
    row("runs whose decisions replay", replayed and replayed[0], f"{replayed[1]}" if replayed else "all",
        replayed and replayed[0] == replayed[1], "{:d}")
    lost = f.get("lost")
    row("a lost device: ledger balanced", lost if lost is None else "yes" if lost else "no", "yes", lost, "{}")
    refused = f.get("refused")
    row("bad input refused in one line", refused and refused[0], f"{refused[1]}" if refused else "all",
        refused and refused[0] == refused[1], "{:d}")
    return table
