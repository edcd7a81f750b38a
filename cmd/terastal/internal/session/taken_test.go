package session

import (
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// Cores that are taken are named by accelerator, and only layers there take longer.
func TestParseTaken(t *testing.T) {
	p := &profiler.Profile{Host: profiler.Host{LogicalCores: 2}, Accelerators: []runtime.Spec{{Name: "one"},
		{Name: "pair", Threads: 2, Cores: []int{0, 1}}}}
	const slice = 1400 * time.Microsecond
	got := testkit.Must(parseTaken("one=0.2/10ms, pair/other=0.5/1ms", p))(t)
	testkit.Equal(t, []sim.Taken{{Threads: 1, Caller: true, Share: .2, Burst: 10 * time.Millisecond, Slice: slice},
		{Accelerator: 1, Threads: 2, Share: .5, Burst: time.Millisecond, Slice: slice}}, got)
	for text, want := range map[string]string{
		"one": "want ACCELERATOR=SHARE/BURST", "one=0.2": "want ACCELERATOR", "one=x/10ms": "want ACCELERATOR",
		"two=0.2/10ms": `no accelerator "two"`, "one/other=0.2/10ms": "of 1 threads", "one=2/10ms": "share 2",
	} {
		testkit.Refused(parseTaken(text, p))(t, want)
	}
	of := func(uint64) sim.Durations {
		return func(time.Duration, sched.Dispatch) time.Duration { return time.Millisecond }
	}
	d := straggling(of, nil, got[:1])(1)
	var now [2]time.Duration
	for range 1000 {
		for k := range now {
			now[k] += d(now[k], sched.Dispatch{Accelerator: k})
		}
	}
	if now[1] != time.Second || now[0] < 1100*time.Millisecond {
		t.Errorf("a second of layers takes %v where a fifth is taken, %v elsewhere", now[0], now[1])
	}
}
