"""Runs commands for check.py, with time limits, and keeps what they say."""
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
import time

import results


def lines_of(path):
    with open(path) as f:
        return [line for line in f.read().splitlines() if line.strip()]


class Failed(Exception):
    """A command did not do what it should, and why."""


class Stages(threading.Thread):
    """Reads what a command shows on a terminal, since only there does it show progress: which stages it had, and when.
    Lines of other text go to a file."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.master, self.terminal = pty.openpty()
        self.path, self.seen, self.last = path, [], ""
        self.began = time.monotonic()
        self.start()

    def run(self):
        text = b""
        with open(self.path, "wb") as f:
            while True:
                try:
                    got = os.read(self.master, 4096)
                except OSError:  # the other end is closed
                    break
                if not got:
                    break
                *lines, text = re.split(rb"[\r\n]+", text + got)
                for line in lines:
                    self.line(line, f)
            self.line(text, f)

    def line(self, line, f):
        line = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", line).strip()
        stage = re.match(rb"(.*?) +([0-9]+%)", line)
        if not stage:
            f.write(line + b"\n" if line else b"")
            return
        name, self.last = stage[1].decode(), stage[2].decode()
        if not self.seen or self.seen[-1][0] != name:
            self.seen.append((name, time.monotonic() - self.began))

    def told(self):
        return ", ".join(f"{name} from {at:.1f} s" for name, at in self.seen) + (f" ({self.last})" if self.last else "")

    def close(self):
        os.close(self.terminal)
        self.join(2)
        os.close(self.master)


class Runner:
    """One measurement: where it writes, how long it may take, and what came out so far."""

    def __init__(self, provider, out, nets, mixed):
        self.provider = provider
        self.out = out
        self.bin = os.environ["TERASTAL_BIN"]
        self.work = os.environ["WORK"]
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        os.environ.setdefault("TERASTAL_CACHE", os.path.join(self.work, "cache"))
        self.budget = float(os.environ.get("BUDGET", "480"))
        self.scale = 1.0  # of durations
        self.began = time.monotonic()
        self.limit = self.began + self.budget  # of the step that runs
        self.figures = {}
        self.commands = []  # what was run, for how long
        self.text = open(os.path.join(out, "check.txt"), "w")
        cores = sorted(os.sched_getaffinity(0))
        self.cpus = [f"{{name: cpu1, cores: [{cores[0]}]}}"]
        if len(cores) >= 12:
            self.cpus = [f"{{name: cpu1, cores: [{cores[1]}]}}",
                         f"{{name: cpu4, threads: 4, cores: {cores[2:6]}}}"]
        self.nets = os.environ.get("NETS", " ".join(nets)).split()
        self.mixed = os.environ.get("MIXED", " ".join(mixed)).split()

    def say(self, line):
        print(line)
        self.text.write(line + "\n")
        self.text.flush()

    def seconds(self, of):
        """A duration for a command line, shorter where the budget is."""
        return f"{max(0.2, of * self.scale):.1f}s"

    @staticmethod
    def end(process, seconds):
        """Waits for a process and returns its exit code, or ends it and what it started and returns None."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            for wish in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, wish)
                    process.wait(3)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            return None

    def run(self, name, *command, document=True, codes=(0, 3), limit=120, watched=False):
        """Runs a command and returns its JSON document, or its output. Exit code 3 says that a run cannot support its
        claims; the document says why."""
        left = min(self.limit - time.monotonic(), limit)
        if left < 1:
            raise Failed("no time left")
        base = os.path.join(self.work, name.replace("/", "-"))
        began, stages = time.monotonic(), Stages(base + ".err") if watched else None
        with open(base + ".out", "w") as stdout, open(base + ".err", "w") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stages.terminal if stages else stderr,
                                       cwd=self.work, start_new_session=True)
            code = self.end(process, left)
        if stages:
            stages.close()
        self.commands.append({"command": name, "seconds": round(time.monotonic() - began, 1), "code": code})
        if stages:
            self.commands[-1]["stages"] = stages.told()
        if code is None:
            raise Failed(f"{name}: stopped after {left:.0f} s" + (f": {stages.told()}" if stages else ""))
        with open(base + ".out") as f:
            text = f.read()
        if code in codes and not document:
            return text
        try:
            if code in codes:
                return json.loads(text)
        except ValueError:
            pass
        said = lines_of(base + ".err")
        raise Failed(f"{name}: " + (said[-1][:400] if said else f"exit code {code} and no word"))

    def terastal(self, name, *arguments, **options):
        return self.run(name, os.path.join(self.bin, "terastal"), *arguments, "--json", **options)

    def chain(self, name, network, *arguments):
        """Runs the bare loop of chain.c and returns its lines."""
        folder = os.path.join(self.work, "layers", network)
        for kind in ("model", "block"):
            if not os.path.exists(os.path.join(folder, kind)):
                self.terastal(f"split {network} {kind}", "models", "split", "zoo:" + network, "--granularity", kind,
                              "--out", os.path.join(folder, kind))
        text = self.run(name, os.path.join(self.bin, "chain"), os.environ["ONNXRUNTIME_LIB"], self.provider, folder,
                        *arguments, document=False)
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        for line in lines:
            if "error" in line:
                self.say(f"  chain.c, {line['way']}: {line['error'][:160]}")
        return lines

    def gpu(self, streams=1, extra=""):
        """The entries of a configuration that stand for the GPU."""
        if self.provider == "cpu":  # nothing but a test of this script
            return [f"{{name: gpu{'.%d' % i if streams > 1 else ''}, optimization: extended}}" for i in range(streams)]
        more = f", streams: {streams}" if streams > 1 else ""
        return [f"{{name: gpu, provider: {self.provider}{more}{extra}}}"]

    def configure(self, name, accelerators, models, budget):
        """Writes a configuration and returns its path. Models are name, network, rate and deadline in ms."""
        path = os.path.join(self.work, name + ".yaml")
        with open(path, "w") as f:
            f.write("accelerators:\n" + "".join(f"  - {a}\n" for a in accelerators) + "models:\n")
            for model, network, rate, deadline in models:
                f.write(f'  - {{name: {model}, source: "zoo:{network}", rate: {rate}, deadline: {deadline}ms, '
                        "granularity: block}\n")
            f.write(f"traffic: {{duration: {self.seconds(2)}, arrivals: poisson}}\n"
                    f"profile: {{budget: {self.seconds(budget)}}}\nout: {os.path.join(self.work, name)}\n")
        return path

    def profile(self, name, config):
        """Measures a profile and returns it."""
        path = os.path.join(self.work, name + ".profile.json")
        try:
            self.terastal("profile " + name, "profile", "--config", config, "--out", path, "--force",
                          watched=True)
        except Failed:
            if os.path.exists(path):  # what was stopped is partial, and no run takes it
                os.remove(path)
            raise
        return results.body(path)

    def earlier(self, path):
        """Takes a profile from the folder PROFILES, where an earlier check's is there, and reports whether it did."""
        kept = os.path.join(os.environ.get("PROFILES", "none"), os.path.basename(path))
        if os.path.exists(path) or not os.path.exists(kept):
            return False
        shutil.copy(kept, path)
        self.say(f"  {os.path.basename(path)} is that of an earlier check")
        return True

    def log(self, path):
        return results.Log(os.path.join(self.work, path))
