package session

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// otherCore follows the name of an accelerator of which not the calling thread's core is taken.
const otherCore = "/other"

// parseTaken reads which cores are taken, such as "pair=0.2/10ms,pair/other=0.5/20ms": a share and a mean burst for the
// core of the thread that runs an accelerator's layers, and for another one.
func parseTaken(text string, p *profiler.Profile) (list []sim.Taken, _ error) {
	for part := range strings.SplitSeq(text, ",") {
		name, what, _ := strings.Cut(part, "=")
		name, other := strings.CutSuffix(strings.TrimSpace(name), otherCore)
		share, burst, _ := strings.Cut(what, "/")
		t := sim.Taken{Caller: !other, Slice: hostinfo.Slice(p.Host.LogicalCores)}
		t.Accelerator = slices.IndexFunc(p.Accelerators, func(s runtime.Spec) bool { return s.Name == name })
		var notShare, notBurst error
		t.Share, notShare = strconv.ParseFloat(share, 64)
		t.Burst, notBurst = time.ParseDuration(burst)
		if notShare != nil || notBurst != nil {
			return nil, Usagef("--taken %q: want ACCELERATOR=SHARE/BURST, such as cpu=0.2/10ms; ACCELERATOR%s is a core that "+
				"does not run its calling thread", part, otherCore)
		}
		if t.Accelerator < 0 {
			return nil, Usagef("--taken %q: the profile has no accelerator %q", part, name)
		}
		t.Threads = max(1, p.Accelerators[t.Accelerator].Threads)
		if err := t.Check(len(p.Accelerators)); err != nil {
			return nil, Usagef("--taken %q: %w", part, err)
		}
		list = append(list, t)
	}
	return list, nil
}

// straggling makes durations longer where cores are taken.
func straggling(of func(uint64) sim.Durations, truth *sched.Tables, taken []sim.Taken) func(uint64) sim.Durations {
	if of == nil {
		of = func(uint64) sim.Durations { return sim.Exactly(truth) }
	}
	return func(seed uint64) sim.Durations { return sim.Straggling(of(seed), taken, seed) }
}
