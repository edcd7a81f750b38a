package runtime_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// The baseline plays the same traffic, its log is consistent, and its outputs are the whole model's.
func TestUnscheduled(t *testing.T) {
	b := open(t, nil, "op", "model")
	sys := b.system(alternate)
	sys.Models[1].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 0.5}
	e := b.executor(t, sys)
	leaks := goleak.IgnoreCurrent()
	tr := released(2)
	tr.Rates[1] = 0
	r := testkit.Must(e.RunUnscheduled(context.Background(), runtime.Options{Traffic: tr, Samples: 3, Queue: 1000}))(t)
	testkit.OK(t, r.Log.Validate())
	m := r.Log.Metrics()
	if m.Met+m.Late+m.Dropped != m.Released || m.Met == 0 || m.Models[1].Released == 0 ||
		m.Models[1].Released >= m.Models[0].Released {
		t.Errorf("totals %+v, models %+v", m.Totals, m.Models)
	}
	if s := r.Stats.Models[0]; s.Released != m.Models[0].Released || s.Met != m.Models[0].Met || s.Active != 0 {
		t.Errorf("statistics %+v differ from the log's %+v", s, m.Models[0])
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Verified != 6 || v.Wrong != 0 {
		t.Errorf("verification %+v, %v", v, err)
	}
	goleak.VerifyNone(t, leaks)
}

// A full queue drops, a context that ends stops it, and a closed loop continues until the end of the traffic.
func TestUnscheduledBounds(t *testing.T) {
	b := open(t, nil, "model")
	e := b.executor(t, b.system(alternate))
	burst := traffic.Config{Rates: []float64{20000}, Phases: traffic.AlignedPhases, Duration: 50 * time.Millisecond}
	r, err := e.RunUnscheduled(context.Background(), runtime.Options{Traffic: burst, Queue: 2})
	testkit.OK(t, err)
	if m := r.Log.Metrics(); r.Log.Validate() != nil || m.Models[0].DropReasons[sched.DropReasonQueueFull] == 0 ||
		len(r.Log.Header.System.Accelerators) != 2 {
		t.Errorf("%v: %+v", r.Log.Validate(), m)
	}
	loop := traffic.Config{Rates: []float64{1}, Process: traffic.ClosedLoop, Duration: 100 * time.Millisecond}
	if r, err = e.RunUnscheduled(context.Background(), runtime.Options{Traffic: loop}); err != nil {
		t.Fatal(err)
	}
	if m := r.Log.Metrics(); r.Log.Validate() != nil || m.Released < 3 {
		t.Errorf("%v: %+v", r.Log.Validate(), m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	loop.Duration = time.Hour
	if r, err = e.RunUnscheduled(ctx, runtime.Options{Traffic: loop}); err != nil || !r.Interrupted ||
		r.Log.Validate() != nil {
		t.Errorf("%v %+v", err, r)
	}
}
