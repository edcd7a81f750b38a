package result

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// A run says which cores were taken, by whom and what that cost, and predictions get shares that cost as much.
func TestTake(t *testing.T) {
	const ms = time.Millisecond
	r := &runtime.Result{Stats: runtime.Stats{At: 2 * time.Second, Accelerators: []runtime.AcceleratorStats{
		{Name: "single", Busy: time.Second, Layers: 1000}, {Name: "three", Busy: time.Second, Layers: 1000},
		{Name: "quiet", Busy: time.Second, Layers: 1000}, {Name: "free", Busy: time.Second, Layers: 1000}, {Name: "unused"}}},
		Workers: []runtime.WorkerStats{{Absent: runtime.Absences{Took: 200 * ms, Bursts: 20}},
			{Absent: runtime.Absences{Took: 19 * ms, Bursts: 1}, Straggled: runtime.Absences{Took: 100 * ms, Bursts: 50}},
			{Straggled: runtime.Absences{Took: time.Second, Bursts: 1}}, {Absent: runtime.Absences{Took: time.Second, Bursts: 1}}, {}}}
	specs := []runtime.Spec{{Name: "single", Cores: []int{0}}, {Name: "three", Threads: 3, Cores: []int{1, 2, 3}},
		{Name: "quiet", Cores: []int{4}}, {Name: "free"}, {Name: "unused", Cores: []int{0}}}
	work := []hostinfo.CoreWork{{Core: 0, Busy: 1500 * ms, Own: time.Second, Others: []hostinfo.OtherWork{
		{Name: "cc", Ran: 400 * ms}, {Name: "us", Own: true, Ran: 40 * ms}, {Name: "gave", Ran: 30 * ms, Waited: time.Second},
		{Name: "little", Ran: ms}}}, {Core: 1, Busy: 2 * time.Second}, {Core: 2}, {Core: 3, Stolen: 200 * ms}}
	e := NewExecution(r, hostinfo.Counters{})
	got := e.Take(r, specs, work)
	testkit.Equal(t, []Taken{{"single", 0, true, 0.2, 10000, []Taker{{"cc", 0.2}, {"us (this program)", 0.02}}},
		{"three", 3, false, 0.1, got[1].Burst.Seconds() * 1e6, []Taker{{"other virtual machines", 0.1}}}}, e.Taken)
	notes := strings.Join(e.Notes, "\n")
	for _, want := range []string{`layers lost 20 % of their time on "single" to others who took core 0, in bursts of 10.0 ms ` +
		`(layers stood still meanwhile): cc for 20 %, us (this program) for 2 % of the time of the run`,
		`layers waited for the thread there, or ran on 2 of 3 cores`} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in the notes:\n%s", want, notes)
		}
	}
	for i, lost := range []float64{.2, .1} {
		testkit.OK(t, got[i].Check(5))
		d := sim.Straggling(func(time.Duration, sched.Dispatch) time.Duration { return ms }, got[i:i+1], 7)
		var now time.Duration
		for range 20_000 {
			now += d(now, sched.Dispatch{Accelerator: got[i].Accelerator})
		}
		if cost := 1 - 20*time.Second.Seconds()/now.Seconds(); math.Abs(cost-lost) > .25*lost {
			t.Errorf("%+v costs %.3f, want about %v", got[i], cost, lost)
		}
	}
	if (&Execution{}).Take(&runtime.Result{}, specs, work) != nil {
		t.Error("a run without workers lost something")
	}
}
