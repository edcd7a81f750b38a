package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

const ms = time.Millisecond

// two is a system of two models on two accelerators; model b's second layer cannot run on the second.
func two() sched.System {
	layer := func(name string, latency ...time.Duration) sched.Layer {
		return sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original", Latency: latency}}}
	}
	return sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{
		{Name: "a", Deadline: 10 * ms, Layers: []sched.Layer{layer("a0", 2*ms, 3*ms)}},
		{Name: "b", Deadline: 20 * ms, Layers: []sched.Layer{layer("b0", 4*ms, 4*ms), layer("b1", 1*ms, sched.Unavailable)}},
	}}
}

// run simulates and returns the records, as lines of text, and the end.
func run(t *testing.T, sys sched.System, policy string, change func(*sim.Config)) ([]string, time.Duration) {
	t.Helper()
	cfg := config(t, sys, policy)
	change(&cfg)
	end := testkit.Must(sim.Run(cfg))(t)
	var lines []string
	for _, r := range *cfg.Engine.Recorder.(*eventlog.Buffer) {
		lines = append(lines, line(&sys, r))
	}
	return lines, end
}

func config(t *testing.T, sys sched.System, name string) sim.Config {
	t.Helper()
	tables := testkit.Must(sched.Compile(sys))(t)
	return sim.Config{Engine: sched.Config{Tables: tables, Policy: policy.Named(name), Recorder: &eventlog.Buffer{}}}
}

func line(sys *sched.System, r eventlog.Record) string {
	m := sys.Models[r.Model].Name
	switch r.Kind {
	case sched.Dispatched, sched.Announced, sched.Completed:
		return fmt.Sprintf("%v %v %s#%d layer %d on %s", r.At, r.Kind, m, r.Job, r.Layer, sys.Accelerators[r.Accelerator])
	case sched.Ended:
		return strings.TrimSuffix(fmt.Sprintf("%v %s#%d %v: %s", r.At, m, r.Job, r.Outcome, r.Detail), ": ")
	case sched.Released:
		return fmt.Sprintf("%v %v %s#%d", r.At, r.Kind, m, r.Job)
	}
	return fmt.Sprintf("%v %v", r.At, r.Kind)
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCompletionBeforeRelease: at the same instant a completion comes first, the
// lower accelerator before the higher, and the release finds both idle.
func TestCompletionBeforeRelease(t *testing.T) {
	lines, end := run(t, two(), "fcfs", func(c *sim.Config) {
		c.Arrivals = []traffic.Arrival{{At: 0, Model: 1}, {At: 1 * ms, Model: 0}, {At: 4 * ms, Model: 0}}
	})
	equal(t, lines,
		"0s release b#0", "0s dispatch b#0 layer 0 on x",
		"1ms release a#1", "1ms dispatch a#1 layer 0 on y",
		"4ms complete b#0 layer 0 on x", "4ms dispatch b#0 layer 1 on x",
		"4ms complete a#1 layer 0 on y", "4ms a#1 met",
		"4ms release a#2", "4ms dispatch a#2 layer 0 on y",
		"5ms complete b#0 layer 1 on x", "5ms b#0 met",
		"7ms complete a#2 layer 0 on y", "7ms a#2 met")
	if end != 7*ms {
		t.Errorf("the end is %v", end)
	}
}

// TestDurations: layers take what the function says, nothing when it says less.
func TestDurations(t *testing.T) {
	var asked []string
	lines, end := run(t, two(), "fcfs", func(c *sim.Config) {
		c.Arrivals = []traffic.Arrival{{At: 1 * ms, Model: 1}, {At: 1 * ms, Model: 0}}
		c.Duration = func(at time.Duration, d sched.Dispatch) time.Duration {
			asked = append(asked, fmt.Sprintf("%v job %d layer %d predicted %v", at, d.Job, d.Layer, d.Finish-at))
			return time.Duration(3*d.Layer-1) * ms // -1, 2
		}
	})
	equal(t, lines,
		"1ms release b#0", "1ms dispatch b#0 layer 0 on x",
		"1ms complete b#0 layer 0 on x", "1ms dispatch b#0 layer 1 on x",
		"1ms release a#1", "1ms dispatch a#1 layer 0 on y",
		"1ms complete a#1 layer 0 on y", "1ms a#1 met",
		"3ms complete b#0 layer 1 on x", "3ms b#0 met")
	equal(t, asked, "1ms job 0 layer 0 predicted 4ms", "1ms job 0 layer 1 predicted 1ms",
		"1ms job 1 layer 0 predicted 3ms")
	if end != 3*ms {
		t.Errorf("the end is %v", end)
	}
}

// never is a policy that leaves every accelerator idle, as if each were out of service.
type never struct{}

func (never) Select(_ *sched.State, out []sched.Choice) []sched.Choice { return out }

// TestDrain: jobs that nothing will serve any more are dropped at the end, so that every job has an outcome.
func TestDrain(t *testing.T) {
	lines, end := run(t, two(), "fcfs", func(c *sim.Config) {
		c.Engine.Policy = func(sched.Config) (sched.Policy, error) { return never{}, nil }
		c.Arrivals = []traffic.Arrival{{At: 0, Model: 0}, {At: 2 * ms, Model: 1}}
	})
	equal(t, lines, "0s release a#0", "2ms release b#1", "2ms stop", "2ms a#0 dropped: run stopped",
		"2ms b#1 dropped: run stopped")
	if end != 2*ms {
		t.Errorf("the end is %v", end)
	}
}

// TestNarrowLayer: a layer that one accelerator cannot run waits for the other,
// under every policy, and the run still ends with every job met.
func TestNarrowLayer(t *testing.T) {
	for _, p := range policy.All() {
		lines, _ := run(t, two(), p.Name, func(c *sim.Config) {
			for i := range 4 {
				c.Arrivals = append(c.Arrivals, traffic.Arrival{At: time.Duration(i) * 10 * ms, Model: 1})
			}
		})
		for _, l := range lines {
			if strings.Contains(l, "layer 1 on y") || strings.Contains(l, "late") || strings.Contains(l, "dropped") {
				t.Errorf("%s: %s", p.Name, l)
			}
		}
	}
}

func TestNoArrivals(t *testing.T) {
	lines, end := run(t, two(), "edf", func(*sim.Config) {})
	equal(t, lines)
	if end != 0 {
		t.Errorf("the end is %v", end)
	}
}

func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sim.Config)
		want   string
	}{
		{"engine", func(c *sim.Config) { c.Engine.Policy = nil }, "no policy"},
		{"unsorted", func(c *sim.Config) { c.Arrivals = []traffic.Arrival{{At: 2 * ms}, {At: 1 * ms}} },
			"arrival 1 at 1ms comes after one at 2ms"},
		{"before the start", func(c *sim.Config) { c.Arrivals = []traffic.Arrival{{At: -1}} }, "a time from 0"},
		{"no such model", func(c *sim.Config) { c.Arrivals = []traffic.Arrival{{Model: 2}} }, "a model from 0 to 1"},
		{"negative model", func(c *sim.Config) { c.Arrivals = []traffic.Arrival{{Model: -1}} }, "a model from 0 to 1"},
	} {
		cfg := config(t, two(), "fcfs")
		c.change(&cfg)
		testkit.Refused(sim.Run(cfg))(t, c.want)
	}
}
