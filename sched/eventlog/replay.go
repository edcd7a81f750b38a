package eventlog

import (
	"fmt"

	"github.com/terastal/terastal/sched"
)

// Replay feeds the log's events, at their recorded times, to a new engine with the same policy and compares its
// decisions with the recorded ones. It returns how many decisions were compared and the first that differs, if any. The
// engine being deterministic, a difference means that the log does not come from this engine, system and policy. of
// makes the policy if package policy does not know it by the header's name; else it is nil.
func (l *Log) Replay(of sched.Constructor) (compared int, difference string, err error) {
	var again Buffer
	cfg, err := l.Header.Engine(&again, of)
	if err != nil {
		return 0, "", err
	}
	engine, err := sched.New(cfg)
	if err != nil {
		return 0, "", err
	}
	if p, ok := engine.Policy().(sched.Searcher); ok && l.Header.SearchDetached {
		p.Detach(0) // what searches found is in the log
	}
	// Decisions follow from the events before them, so that the replayed records have to equal the log at every point.
	for i := 0; i < len(l.Records); {
		ev, ok := event(&l.Records[i])
		if !ok {
			return compared, fmt.Sprintf("record %d is %v, which no recorded event causes", i, l.Records[i]), nil
		}
		again = again[:0]
		engine.Step(ev)
		for _, r := range again {
			if i >= len(l.Records) {
				return compared, fmt.Sprintf("the log ends, the engine adds %v", r), nil
			}
			if got := l.Records[i]; got != r {
				return compared, fmt.Sprintf("record %d: the log has %+v, the engine says %+v", i, got, r), nil
			}
			if r.Kind == sched.Dispatched {
				compared++
			}
			i++
		}
		if len(again) == 0 {
			return compared, fmt.Sprintf("record %d has no effect on the engine", i), nil
		}
	}
	return compared, "", nil
}

// event reconstructs the event that caused a record; the records that follow
// from it (drops, decisions) are caused by no other event.
func event(r *Record) (sched.Event, bool) {
	switch r.Kind {
	case sched.Released:
		if r.Job >= sched.FirstOwnJob {
			return sched.Event{}, false
		}
		return sched.Event{Kind: sched.Release, At: r.At, Job: r.Job, Model: int(r.Model), Start: r.Start, Deadline: r.Until},
			true
	case sched.Completed:
		return sched.Event{Kind: sched.Complete, At: r.At, Accelerator: int(r.Accelerator), Start: r.Start}, true
	case sched.Requeued:
		return sched.Event{Kind: sched.Requeue, At: r.At, Accelerator: int(r.Accelerator), Detail: r.Detail}, true
	case sched.Announced:
		return sched.Event{Kind: sched.Ending, At: r.At, Accelerator: int(r.Accelerator), Until: r.Until}, true
	case sched.Doomed:
		return sched.Event{Kind: sched.Fail, At: r.At, Accelerator: int(r.Accelerator), Detail: r.Detail}, true
	case sched.Down:
		return sched.Event{Kind: sched.AcceleratorDown, At: r.At, Accelerator: int(r.Accelerator), Detail: r.Detail}, true
	case sched.Up:
		return sched.Event{Kind: sched.AcceleratorUp, At: r.At, Accelerator: int(r.Accelerator), Detail: r.Detail}, true
	case sched.Ended:
		if r.Outcome == sched.Failed {
			return sched.Event{Kind: sched.Fail, At: r.At, Accelerator: int(r.Accelerator), Detail: r.Detail}, true
		}
	case sched.Stopped:
		return sched.Event{Kind: sched.Stop, At: r.At}, true
	case sched.RuleFound:
		return sched.Event{Kind: sched.Searched, At: r.At, Start: r.Start, Found: int(r.Implementation)}, true
	}
	return sched.Event{}, false
}
