#!/usr/bin/env python3
"""The steps of check.sh, which sets the environment and calls this: check.py PROVIDER FOLDER."""
import json
import os
import signal
import sys
import tarfile
import time

import results
from goals import GOALS, rows
from results import median, quantile
from runner import Failed, Runner, lines_of

# The mixed schedule: requests per second and deadlines in ms.
MIXED = {
    "resnet50": (60, 25),
    "swin_tiny": (15, 60),
    "mobilenetv2": (60, 15),
    "glyph_vit": (100, 8),
    "ds_cnn_kws": (100, 5),
}
POLICIES = ["fcfs", "edf", "llf", "heft", "dream", "terastal", "pedf", "rollout", "fifo", "triton-like",
            "edf-model", "pedf-model", "unscheduled"]
FEW = ["fcfs", "terastal", "pedf", "rollout"]
# The layouts in which WebGPU computes convolutions.
LAYOUTS = ["NCHW", "NHWC"]


def is_gpu(name):
    return name.split(".")[0] == "gpu"


# ---- the steps


def doctor(c):
    d = c.terastal("doctor", "doctor")
    for p in d["providers"]:
        if p["name"] == c.provider:
            c.say(f"  {c.provider}: {'opens' if p['opens'] else p['reason']}")
            c.figures["opens"] = p["opens"]
    for g in d["host"].get("gpus", []):
        c.say("  " + ", ".join(f"{k} {g[k]}" for k in ("model", "clock_mhz", "max_clock_mhz", "power_w") if k in g))
    c.say(f"  {d['host'].get('cpu')}, {d['host'].get('logical_cores')} cores; "
          f"auto: {', '.join(a['name'] for a in d['accelerators'])}")


def one_network(c, network, ways):
    """The profile's chain and the bare loop in turns, twice."""
    config = c.configure("chain-" + network, c.gpu(), [(network, network, 10, 100)], 3)
    ours, bare = [], {}
    for turn in (1, 2):
        if ways:
            for line in c.chain(f"bare {network} {turn}", network, "runs=200", "ways=" + ",".join(ways[turn - 1])):
                if "p50_us" in line:
                    bare.setdefault(line["way"], []).append(line)
        profile = c.profile(f"chain-{network}.{turn}", config)
        ours += [v for k, v in results.chains(profile).items() if is_gpu(k[1])]
    return ours, bare


def chains(c):
    found = c.figures.setdefault("chains", {})
    few = ["whole", "whole captured", "chain captured", "chain captured with copies"]
    ways = [few + ["whole graph", "chain synchronised", "chain stream"], few]
    if c.provider == "cpu":
        ways = [["whole", "chain synchronised"]] * 2
    for network in c.nets:
        try:
            ours, bare = one_network(c, network, ways)
        except Failed as e:
            c.say(f"  {network}: {e}")
            continue
        of = {way: results.middle([line["p50_us"] for line in lines]) for way, lines in bare.items()}
        apart = max((line["difference"] for lines in bare.values() for line in lines), default=0)
        f = found[network] = {"bare": of, "layers": ours[0]["layers"], "captured": ours[0]["captured"]}
        for key in ("chain_us", "whole_us", "plain_us", "graph_us"):
            f[key] = results.middle([o[key] for o in ours if o[key]])
        c.say(f"  {network} ({f['layers']} layers, {f['captured']} captured), us: " + ", ".join(
            f"{key[:-3]} {f[key]:.0f}" for key in ("chain_us", "whole_us", "plain_us", "graph_us") if f[key]))
        if of:
            c.say("    chain.c: " + ", ".join(f"{way} {us:.0f}" for way, us in of.items()) +
                  f"; outputs apart {apart:.0e}")


def layouts(c):
    """WebGPU: the chain in both layouts of convolutions; the better one counts."""
    found = c.figures.setdefault("chains", {})
    for network in c.nets:
        for layout in LAYOUTS:
            name = f"{network}-{layout}"
            try:
                config = c.configure("chain-" + name, c.gpu(extra=f', options: ["preferredLayout={layout}"]'),
                                     [(network, network, 10, 1000)], 4)
                chain = results.chains(c.profile("chain-" + name, config))[network, "gpu"]
            except Failed as e:
                c.say(f"  {name}: {e}")
                continue
            c.say(f"  {name} ({chain['layers']} layers): chain {chain['chain_us']:.0f} us, "
                  f"whole {chain['whole_us']:.0f} us, {chain['chain_us'] / chain['whole_us']:.2f}")
            if network not in found or chain["chain_us"] < found[network]["chain_us"]:
                found[network] = dict(chain, layout=layout, bare={})


def streams(c):
    """Requests per second of one network on 1 to 8 streams: the bare loop's and ours."""
    network = "glyph_resnet" if "glyph_resnet" in c.nets else c.nets[0]
    counts = [1, 2, 4, 8] if c.provider == "cuda" else [1, 2]
    found = c.figures.setdefault("streams", {})
    for line in c.chain("bare streams", network, "streams=" + ",".join(map(str, counts)), "seconds=0.4"):
        if "streams" in line:
            found.setdefault("chain.c, " + line["way"], {})[line["streams"]] = line["per_s"]
    for n in [1, 4, 8, 2]:
        if n not in counts:
            continue
        try:
            config = c.configure(f"streams-{n}", c.gpu(n), [(network, network, 1000, 200)], 3)
            r = c.terastal(f"run streams {n}", "run", "--config", config, "--policies", "fcfs", "--load", "1.4",
                           "--drop", "none", "--queue", "24", "--duration", c.seconds(1.5), limit=40)
        except Failed as e:
            c.say(f"  {n}: {e}")
            continue
        found.setdefault("terastal", {})[n] = results.per_second(r)["fcfs"]
        verified(c, r)
    for who, per_s in found.items():
        c.say(f"  {who}: " + ", ".join(f"{n}: {v:.0f}/s" for n, v in sorted(per_s.items())))


def verified(c, result):
    right, wrong = results.verified(result)
    f = c.figures.setdefault("outputs", {"sampled": 0, "wrong": 0})
    f["sampled"] += right + wrong
    f["wrong"] += wrong


def compare(c, name, config, kept, label, policies, seconds, flags):
    """Plays policies on a mixed schedule and returns the result. A profile of an earlier check that does not fit is
    measured here. Of a comparison that was stopped there are the logs of the policies that were done."""
    path, folder = os.path.join(c.work, name + ".profile.json"), os.path.join(name, label)
    command = ["compare", "--config", config, "--profile", path, "--policies", ",".join(policies), "--repeats", "1",
               "--out", os.path.join(c.work, folder), "--duration", c.seconds(seconds), *flags]
    try:
        return c.terastal(f"{name} {label}", *command)
    except Failed as e:
        c.say(f"  {label}: {e}")
        if kept and "stale" in str(e):
            c.profile(name, config)
            return c.terastal(f"{name} {label}", *command)
        done = [p for p in policies if os.path.exists(os.path.join(c.work, folder, p + ".log.json"))]
        return {"policies": [{"policy": p, "mean_miss_rate": c.log(f"{folder}/{p}.log.json").miss_rate()}
                             for p in done]}


def held_up(c, f, policy, path):
    """What held the GPU up in one policy's run, and how well its layers were predicted."""
    log, name = results.Log(path), policy["policy"]
    gpus = [a for a in log.accelerators if is_gpu(a)]
    share, count, longest = log.stalls(gpus)
    told = [w.get("stalled_share", 0) for w in policy.get("workers", []) if is_gpu(w["accelerator"])]
    f.setdefault("stalls", {})[name] = max([share] + told)
    f.setdefault("workers", {})[name] = policy.get("workers", [])
    gpu, cpu = log.errors(gpus), log.errors([a for a in log.accelerators if not is_gpu(a)])
    c.say(f"    {name}: stalls {100 * share:.2f} % of the GPU ({count}, longest {longest:.1f} ms); layers take "
          f"{gpu[0]:.2f} (GPU, in sum {gpu[1]:.2f}) and {cpu[0]:.2f} (CPU, {cpu[1]:.2f}) of the prediction")


def mixed(c, n, runs):
    """The five networks on CPU accelerators and the GPU with n streams. Runs are label, policies, seconds and flags."""
    name = f"mixed-{n}"
    path = os.path.join(c.work, name + ".profile.json")
    # With less than 5 s one process measures each device: opening and warming up streams takes longer than measuring.
    budget = 6 if n == 1 else 4.8
    config = c.configure(name, c.cpus + c.gpu(n), [(m, m, *MIXED[m]) for m in c.mixed], budget)
    found = c.figures.setdefault(name, {})
    kept = c.earlier(path)
    if not os.path.exists(path):
        c.profile(name, config)
    for label, policies, seconds, flags in runs:
        try:
            r = compare(c, name, config, kept, label, policies, seconds, flags)
        except Failed as e:
            c.say(f"  {label}: {e}")
            continue
        if "devices" not in found:
            found["devices"] = results.devices(results.body(path))
            for d in found["devices"]:
                c.say(f"  device: {json.dumps(d)}")
        verified(c, r)
        played = results.policies(r)
        f = found.setdefault("runs", {})[label] = {"load": r.get("traffic", {}).get("load")}
        f["folder"] = f"{name}/{label}"
        f["misses"] = {p: 100 * v["mean_miss_rate"] for p, v in played.items()}
        f["invalid"] = r.get("invalid_reasons", [])
        f["energy"] = {p: v["energy"] for p, v in played.items() if "energy" in v}
        joules = {p: v["j_per_met"] for p, v in f["energy"].items() if v.get("j_per_met")}
        c.say(f"  {label}, {len(c.mixed)} networks, gpu with {n} stream(s): misses in % " + (", ".join(
            f"{p} {v:.2g}" for p, v in f["misses"].items()) or "of no policy"))
        if joules:
            c.say("    joules per met request: " + ", ".join(f"{p} {v:.2g}" for p, v in joules.items()))
        for line in sorted({line for p in played.values() for line in results.devices_in(p)}):
            c.say("    " + line)
        for p in FEW if label == "load 0.6" else []:
            log = os.path.join(c.work, f["folder"], p + ".log.json")
            if p in played and os.path.exists(log):
                held_up(c, f, played[p], log)


def mixed_first(c):
    mixed(c, 1, [("load 0.6", POLICIES, 2, ["--load", "0.6"])])


def mixed_streams(c):
    mixed(c, 4, [("load 0.6", POLICIES, 2, ["--load", "0.6"]), ("same rates", FEW, 2, [])])


def mixed_more(c):
    for n in (1,) if c.provider == "webgpu" else (1, 4):
        mixed(c, n, [(f"load {load}", POLICIES, 1, ["--load", load]) for load in ("0.9", "1.1")])


def validate(c):
    """Replays recorded runs and holds the simulator against them."""
    for n in (1, 4):
        run = c.figures.get(f"mixed-{n}", {}).get("runs", {}).get("load 0.6")
        if not run:
            continue
        folder = os.path.join(c.work, run["folder"])
        logs = [os.path.join(folder, p + ".log.json") for p in FEW]
        v = c.terastal(f"validate {n}", "validate", *[p for p in logs if os.path.exists(p)], "--profile",
                       os.path.join(c.work, f"mixed-{n}.profile.json"), "--draws", "3", codes=(0, 1, 3))
        for one in v["validations"]:
            checks = one.get("checks", [])
            passed = sum(1 for k in checks if k["ok"])
            c.say(f"  {n} stream(s), {one['policy']}: {one['decisions_replayed']} decisions replayed, layers off by "
                  f"{100 * one['layers']['bias']:+.1f} %, {passed} of {len(checks)} checks")
        replayed = c.figures.setdefault("replayed", [0, 0])
        replayed[0] += sum(1 for one in v["validations"] if not one.get("first_difference"))
        replayed[1] += len(v["validations"])


def demo(c):
    r = c.terastal("demo", "demo", "--budget", c.seconds(5), "--duration", c.seconds(1), "--out",
                   os.path.join(c.work, "demo"))
    right, wrong = results.verified(r)
    c.figures["demo"] = {"right": right, "wrong": wrong,
                         "misses": {p: 100 * v["mean_miss_rate"] for p, v in results.policies(r).items()}}
    verified(c, r)
    c.say(f"  accelerators {', '.join(a['name'] for a in r['accelerators'])}; {right} of {right + wrong} outputs "
          "verified; misses in % " + ", ".join(f"{p} {v:.2g}" for p, v in c.figures["demo"]["misses"].items()))


def gaps(c):
    """Between two layers of a CPU accelerator that has work: with the GPU and without it, in turns."""
    models = [(m, m, *MIXED[m]) for m in ("glyph_vit", "ds_cnn_kws") if m in c.mixed]
    p99 = {"without": [], "with": []}
    for turn in (1, 2):
        for kind, accelerators in (("without", c.cpus), ("with", c.cpus + c.gpu(4 if c.provider == "cuda" else 1))):
            config = c.configure(f"gaps-{kind}", accelerators, models, 3)
            c.terastal(f"gaps {kind} {turn}", "run", "--config", config, "--policies", "fcfs", "--load", "1.1",
                       "--duration", c.seconds(1.5), "--out", os.path.join(c.work, f"gaps-{kind}"))
            log = c.log(f"gaps-{kind}/fcfs.log.json")
            found = log.gaps([a for a in log.accelerators if not is_gpu(a)])
            p99[kind].append(quantile(found, 0.99))
            c.say(f"  {kind} the GPU: p50 {median(found) or 0:.2f} us, p99 {p99[kind][-1] or 0:.2f} us, "
                  f"{len(found)} gaps")
    c.figures["gaps"] = p99


def waking(c):
    """What a device that rested costs the bare loop."""
    network = "mobilenetv2" if "mobilenetv2" in c.nets else c.nets[0]
    found = {}
    for line in c.chain("bare pauses", network, "runs=100", "ways=whole,chain captured,chain synchronised",
                        "pauses=0.3,1,10,100"):
        if "p50_us" in line:
            found.setdefault(line["way"], {})[line.get("pause_ms", 0)] = line["p50_us"]
    for way, after in found.items():
        c.say(f"  {network}, {way}, us after pauses in ms: " + ", ".join(
            f"{p:g}: {us:.0f}" for p, us in sorted(after.items())))
    c.figures["waking"] = found


def warm(c):
    """What keep_warm gives and takes."""
    network = "mobilenetv2" if "mobilenetv2" in c.nets else c.nets[0]
    found = c.figures.setdefault("warm", {})
    for kind, extra in (("rests", ""), ("kept warm", ", keep_warm: true")):
        config = c.configure("warm-" + kind.replace(" ", "-"), c.gpu(extra=extra), [(network, network, 20, 50)], 3)
        r = c.terastal("run " + kind, "run", "--config", config, "--policies", "edf", "--duration", c.seconds(3))
        p = r["policies"][0]
        found[kind] = {"p50_ms": p["models"][0]["p50_ms"], "energy": p.get("energy")}
        e = p.get("energy", {})
        watts = f"{e['gpu_j'] / e['elapsed_s']:.0f} W" if e.get("gpu_j") and e.get("elapsed_s") else "power unknown"
        c.say(f"  20 requests/s of {network}, {kind}: p50 {found[kind]['p50_ms']:.3f} ms, {watts}")


def precision(c):
    """Variants of lower precision: what is faster on the GPU, and what it keeps."""
    families = {"cuda": "tf32,fp16,bf16", "webgpu": "fp16", "cpu": "int8"}[c.provider]
    config = os.path.join(c.work, "precision.yaml")
    with open(config, "w") as f:
        f.write("accelerators:\n" + "".join(f"  - {a}\n" for a in c.cpus[:1] + c.gpu()) +
                'models:\n  - {name: glyph_resnet, source: "zoo:glyph_resnet", rate: 100, deadline: 10ms, granularity: '
                'block,\n     calibration: {source: "glyphs:calibration", count: 50},\n'
                '     labelled: {source: "glyphs:test", count: 200}}\n' + f"out: {os.path.join(c.work, 'precision')}\n")
    found = c.terastal("precision", "variants", "design", "--config", config, "--families", families, "--all",
                       "--budget", c.seconds(6))
    for model in found:
        gpu = next(k for k, name in enumerate(model["accelerators"]) if is_gpu(name))
        faster = {}
        for v in model.get("candidates") or []:
            was, now = v.get("original_ns"), v.get("latency_ns")
            if v.get("family") in families.split(",") and was and now and was[gpu] > 0 and now[gpu] > 0:
                best = faster.setdefault(v["layer_name"], {})
                best[v["family"]] = max(best.get(v["family"], 0), was[gpu] / now[gpu])
        for layer, best in faster.items():
            c.say(f"  {layer}: " + ", ".join(f"{family} {times:.2f}x" for family, times in best.items()))
        chosen = [f"{v['layer_name']} {v['family']} (error {v.get('error', 0):.0e})" for v in model.get("chosen") or []]
        c.say(f"  chosen: {', '.join(chosen) or 'none'}; of {model['metric']} {model['baseline']:.3f} "
              f"({model['requests']} inputs) any of them keep at least {min(model['accuracy']):.3f}")
    c.figures["precision"] = found


def memory(c):
    for n in (1, 4):
        for d in c.figures.get(f"mixed-{n}", {}).get("devices", []):
            c.say(f"  {d['name']} with {d['streams']} stream(s): {d['memory_mb']:.0f} MB as the profile says")
            c.figures.setdefault("memory", {})[n] = d["memory_mb"]


def bad_input(c):
    """Each is refused in one line before anything long starts."""
    bad = {
        "streams 0": "{name: gpu, provider: %s, streams: 0}" % c.provider,
        "streams 1000": "{name: gpu, provider: %s, streams: 1000}" % c.provider,
        "streams on a CPU": "{name: cpu, streams: 2}",
        "no such device": '{name: gpu, provider: %s, options: ["%s=99"]}' % (
            c.provider, "deviceId" if c.provider == "webgpu" else "device_id"),
    }
    refused = 0
    for name, accelerator in bad.items():
        config = c.configure("bad-" + name.replace(" ", "-"), [accelerator], [("net", "ds_cnn_kws", 10, 10)], 1)
        start = time.monotonic()
        try:
            c.terastal("bad " + name, "run", "--config", config, codes=(1, 2), document=False, limit=30)
        except Failed as e:
            c.say(f"  {name}: {e}")
            continue
        lines = lines_of(os.path.join(c.work, f"bad {name}.err"))
        refused += len(lines) == 1 and accelerator[7:10] in lines[0] and "no such file" not in lines[0]
        c.say(f"  {name}, after {time.monotonic() - start:.1f} s, {len(lines)} line(s): "
              f"{lines[-1][-130:] if lines else ''}")
    c.figures["refused"] = refused, len(bad)


def lost(c):
    """A drill: the device is lost in the middle of a run."""
    folder, profile = os.path.join(c.work, "lost"), os.path.join(c.work, "gaps-with", "profile.json")
    r = c.terastal("lost", "run", "--config", os.path.join(c.work, "gaps-with.yaml"), "--profile", profile,
                   "--policies", "pedf", "--duration", c.seconds(1), "--faults", "lost accelerator=gpu after=200",
                   "--out", folder, codes=(0, 1, 3))
    p = r["policies"][0]
    balanced = p["released"] == p["met"] + p["late"] + p["dropped"] + p["failed"]
    c.terastal("lost validate", "validate", os.path.join(folder, "pedf.log.json"), "--profile", profile, "--draws", "1",
               codes=(0, 3))
    c.say("  " + ", ".join(f"{k} {p[k]}" for k in ("released", "met", "late", "dropped", "failed")) +
          "; decisions replayed")
    c.figures["lost"] = balanced


# Steps in the order of what matters, with their shares of the budget in seconds.
STEPS = [
    ("doctor", 10, doctor),
    ("chains", 110, chains),
    ("layouts", 110, layouts),
    ("mixed", 65, mixed_first),
    ("streams", 60, streams),
    ("mixed, 4 streams", 110, mixed_streams),
    ("validate", 15, validate),
    ("demo", 60, demo),
    ("gaps", 30, gaps),
    ("lost", 15, lost),
    ("bad input", 10, bad_input),
    ("waking", 10, waking),
    ("memory", 1, memory),
    ("mixed, more loads", 120, mixed_more),
    ("precision", 25, precision),
    ("warm", 20, warm),
]

# WebGPU has one queue, and the bare loop knows CUDA.
CUDA_ONLY = ["chains", "streams", "mixed, 4 streams", "waking"]


def show_table(c):
    table = rows(c.provider, c.nets, c.figures)
    words = {None: "not measured", True: "pass", False: "FAIL"}
    width = max(len(r[0]) for r in table)
    c.say(f"\n{'goal'.ljust(width)}  {'value':>8}  {'asked for':>10}")
    for name, value, goal, good in table:
        c.say(f"{name.ljust(width)}  {value:>8}  {goal:>10}  {words[good]}")
    count = {w: sum(1 for r in table if words[r[3]] == w) for w in words.values()}
    c.say(", ".join(f"{n} {w}" for w, n in count.items()))


def save(c):
    with open(os.path.join(c.out, "check.json"), "w") as f:
        table = rows(c.provider, c.nets, c.figures)
        json.dump({"provider": c.provider, "figures": c.figures, "table": table, "commands": c.commands}, f, indent=1,
                  default=str)


def archive(c, most=15 << 20):
    """Packs documents, then logs while there is room: what is packed should travel."""
    def add(name, wanted):
        path = os.path.join(c.out, name)
        with tarfile.open(path, "w:gz", compresslevel=6) as tar:
            for folder, _, files in sorted(os.walk(c.work)):
                for file in sorted(files):
                    full = os.path.join(folder, file)
                    short = os.path.relpath(full, c.work)
                    if wanted(short) and os.path.getsize(path) < most and os.path.getsize(full) < most:
                        tar.add(full, short)
    few = {p + ".log.json" for p in FEW}
    add("documents.tar.gz", lambda p: not p.startswith(("cache", "layers")) and p.endswith(
        (".yaml", ".err", ".out", "profile.json", "plan.json")))
    add("logs.tar.gz", lambda p: "mixed-" in p and "load 0.6" in p and os.path.basename(p) in few)


def main(provider, out):
    if provider not in ("cuda", "webgpu", "cpu"):
        sys.exit(f"check: provider {provider}: use cuda or webgpu")
    c = Runner(provider, out, list(GOALS), list(MIXED))
    chosen = os.environ.get("STEPS", "").split()
    skipped = CUDA_ONLY if provider == "webgpu" else ["layouts"]
    steps = [(name, share, step) for name, share, step in STEPS if name not in skipped and
             (not chosen or name.replace(", ", "-").replace(" ", "-") in chosen)]
    if not steps:
        names = " ".join(name.replace(", ", "-").replace(" ", "-") for name, _, _ in STEPS)
        sys.exit(f"check: no step of {provider} is in STEPS: use some of {names}")
    # All steps are more than fits: those at the end run where others need less than their shares.
    per_share = c.budget / min(480, sum(share for _, share, _ in steps))
    c.scale = float(os.environ.get("SCALE", min(1.0, per_share)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end = c.began + c.budget
    try:
        for name, share, step in steps:
            start = time.monotonic()
            c.limit = min(end, start + 1.5 * share * per_share)
            c.say(f"== {name} (after {start - c.began:.0f} s)")
            try:
                step(c)
            except Failed as e:
                c.say(f"  not measured: {e}")
            except (KeyError, IndexError, TypeError, ValueError, OSError, ZeroDivisionError) as e:
                c.say(f"  not measured: a document is not as expected: {type(e).__name__} {e}")
            save(c)
    finally:
        show_table(c)
        save(c)
        archive(c)
        c.say(f"took {time.monotonic() - c.began:.0f} s; {c.out}/check.txt, check.json, documents.tar.gz, logs.tar.gz")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
