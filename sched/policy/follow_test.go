package policy

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
)

// follower follows the records of an engine with its own state and fails at the first that breaks an invariant.
type follower struct {
	t      testkit.T
	sys    *sched.System
	cfg    sched.Config
	now    time.Duration
	jobs   map[int64]*followed
	busy   map[int32]*followed // by accelerator
	tails  map[int32]*followed // by accelerator: whose layer is about to end there
	down   map[int32]bool
	active map[int32]int // by model
}

type followed struct {
	release  sched.Record
	layer    int32
	used     sched.VariantSet
	on, last int32
	trails   int32 // the accelerator on which the layer before has yet to end
	doomed   bool
	ended    bool
}

// check follows all records, at whose end no job is left. Sets of variants have to be listed.
func (l records) check(t testkit.T, sys *sched.System, cfg sched.Config) {
	f := follower{t, sys, cfg, 0, map[int64]*followed{}, map[int32]*followed{}, map[int32]*followed{},
		map[int32]bool{}, map[int32]int{}}
	for n, r := range l {
		if what := f.follow(r); what != "" {
			t.Fatalf("record %d %+v: %s", n, r, what)
		}
	}
	for id, j := range f.jobs {
		if !j.ended {
			t.Fatalf("job %d has no outcome", id)
		}
	}
}

// follow says what is wrong with a record.
func (f *follower) follow(r sched.Record) string {
	if r.At < f.now {
		return fmt.Sprintf("time goes back from %v", f.now)
	}
	f.now = r.At
	j, k := f.jobs[r.Job], r.Accelerator
	switch r.Kind {
	case sched.Released:
		if j != nil {
			return "released twice"
		}
		f.jobs[r.Job] = &followed{release: r, on: sched.Idle, last: sched.Idle, trails: sched.Idle}
		f.active[r.Model]++
	case sched.Dispatched:
		return f.dispatched(j, r)
	case sched.Announced:
		if f.busy[k] != j || r.Layer != j.layer || f.tails[k] != nil || j.trails != sched.Idle || r.Until < r.At {
			return "it is not about to end"
		}
		f.busy[k], f.tails[k] = nil, j
		if !j.doomed && int(j.layer)+1 < len(f.sys.Models[r.Model].Layers) {
			j.on, j.last, j.trails = sched.Idle, k, k
			j.layer++
		}
	case sched.Completed, sched.Requeued, sched.Doomed:
		return f.completed(j, r)
	case sched.Ended:
		return f.ended(j, r)
	case sched.Down, sched.Up:
		f.down[k] = r.Kind == sched.Down
	}
	return ""
}

func (f *follower) completed(j *followed, r sched.Record) string {
	k := r.Accelerator
	moved := j.trails != sched.Idle
	layer := j.layer
	if moved {
		layer--
	}
	if (f.tails[k] == nil && f.busy[k] != j) || f.tails[k] != nil && f.tails[k] != j || r.Layer != layer ||
		moved && j.trails != k {
		return "the accelerator does not run it, or something else first"
	}
	if f.tails[k] == nil {
		f.busy[k] = nil
	}
	f.tails[k], j.trails = nil, sched.Idle
	switch {
	case r.Kind == sched.Doomed:
		if j.doomed = true; !moved || j.on == sched.Idle {
			return "it is not behind another layer"
		}
	case moved:
		if r.Kind == sched.Requeued {
			return "it has moved on"
		}
	case r.Kind == sched.Completed && !j.doomed:
		j.last = k
		j.layer++
		fallthrough
	default:
		j.on = sched.Idle
	}
	return ""
}

func (f *follower) dispatched(j *followed, r sched.Record) string {
	k := r.Accelerator
	model := f.sys.Models[r.Model]
	layer := model.Layers[r.Layer]
	im := layer.Implementations[r.Implementation]
	if f.busy[k] != nil || f.down[k] {
		return "the accelerator is busy or down"
	}
	if j.on != sched.Idle || j.ended || r.Layer != j.layer || r.Model != j.release.Model {
		return fmt.Sprintf("it is not this layer's turn: %+v", *j)
	}
	if im.Variant > 0 {
		if j.used |= 1 << (im.Variant - 1); !isValid(model, j.used) {
			return fmt.Sprintf("the set %b of variants is not valid", j.used)
		}
	}
	finish := max(r.At, r.Start) + im.Latency[k]
	if layer.Handoff != nil && j.last != sched.Idle {
		finish += layer.Handoff[j.last][k]
	}
	if im.Latency[k] == sched.Unavailable || r.Until != finish && !f.cfg.Adapt {
		return fmt.Sprintf("predicted to end at %v", finish)
	}
	f.busy[k], j.on = j, k
	return ""
}

func (f *follower) ended(j *followed, r sched.Record) string {
	if j.ended {
		return "ended twice"
	}
	j.ended = true
	on := j.on
	if on == sched.Idle {
		on = j.trails
	}
	done := int(j.layer) == len(f.sys.Models[r.Model].Layers)
	want := map[sched.Outcome]bool{
		sched.Met:     done && r.At <= j.release.Until,
		sched.Late:    done && r.At > j.release.Until,
		sched.Dropped: !done && on == sched.Idle && !j.doomed && r.Detail != "",
		sched.Failed:  !done && (on != sched.Idle || j.doomed) && r.Detail != "",
	}
	if !want[r.Outcome] || r.Start != j.release.Start || r.Until != j.release.Until || r.Accelerator != on ||
		j.trails != sched.Idle && j.on != sched.Idle {
		return fmt.Sprintf("the outcome is wrong: %+v", *j)
	}
	if full := f.active[r.Model] > f.cfg.Queue; full != (r.Detail == sched.DropReasonQueueFull) {
		return fmt.Sprintf("%d jobs of the model are in the system", f.active[r.Model])
	}
	f.active[r.Model]--
	switch {
	case on == sched.Idle:
	case f.tails[on] == j:
		f.tails[on] = nil
	case f.tails[on] != nil:
		return "the accelerator runs something else first"
	default:
		f.busy[on] = nil
	}
	return ""
}
