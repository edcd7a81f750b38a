package sched

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// DropPolicy says when the engine gives up a waiting job.
type DropPolicy uint8

const (
	// DropNone never gives up: late jobs run to their end.
	DropNone DropPolicy = iota
	// DropLate drops a job that waits past its deadline.
	DropLate
	// DropHopeless drops a waiting job that would miss its deadline even if
	// every remaining layer started at once on its best accelerator.
	DropHopeless
	// DropSmart is DREAM's smart frame drop: a waiting job that would miss its deadline even at its fastest is dropped
	// when more than one job is predicted to miss, nothing depends on its model, and fewer than 2 of the model's last 10
	// jobs were dropped.
	DropSmart
)

var dropNames = [...]string{"none", "late", "hopeless", "smart"}

func (d DropPolicy) String() string { return dropNames[d] }

// ParseDrop reads "none", "late", "hopeless" or "smart".
func ParseDrop(s string) (DropPolicy, error) {
	i := slices.Index(dropNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("unknown drop policy %q, have %s", s, strings.Join(dropNames[:], ", "))
	}
	return DropPolicy(i), nil
}

// Reasons of drops, as they appear in Record.Detail.
const (
	DropReasonLate      = "past its deadline"
	DropReasonHopeless  = "cannot meet its deadline"
	DropReasonQueueFull = "queue full"
	DropReasonStopped   = "run stopped"
	DropReasonSmart     = "smart drop" // also where a policy gives up a job
)

// drop gives up the waiting jobs that the drop policy, the scheduling policy or a stop says to.
func (e *Engine) drop() {
	given := -1
	if e.observer != nil {
		given = e.observer.GiveUp(&e.state, 0)
	}
	if !e.stopped && given < 0 && (e.cfg.Drop == DropNone || e.cfg.Drop == DropLate && e.state.Now <= e.overdue) {
		return
	}
	e.overdue = Never
	for i := 0; i < len(e.state.Jobs); {
		reason := ""
		if j := &e.state.Jobs[i]; e.state.trails(j) { // not before its last layer has ended
			if i == given {
				given = e.observer.GiveUp(&e.state, i+1)
			}
		} else if j.Waiting() {
			reason = e.dropReason(i, i == given)
		}
		if reason == "" {
			e.overdue = min(e.overdue, e.state.Jobs[i].Deadline)
			i++
			continue
		}
		e.end(i, Dropped, reason)
		if e.observer != nil {
			given = e.observer.GiveUp(&e.state, i)
		}
	}
}

// dropReason says why the waiting job at index i, given up by its policy or not, is to be dropped; empty if it is not.
func (e *Engine) dropReason(i int, given bool) string {
	j := &e.state.Jobs[i]
	switch {
	case e.stopped:
		return DropReasonStopped
	case e.cfg.Drop == DropLate && e.state.Now > j.Deadline:
		return DropReasonLate
	case e.cfg.Drop == DropHopeless && max(e.state.Now, j.Ready)+e.t.models[j.Model].LeastLeft(j.Layer, j.At) > j.Deadline:
		return DropReasonHopeless
	case given, e.cfg.Drop == DropSmart && e.t.SmartDrop(&e.state, i):
		return DropReasonSmart
	}
	return ""
}

// SmartDrop is DREAM's rule for giving up a waiting request: its least time to go exceeds its slack, more than one
// request is predicted to miss, nothing depends on its model, and fewer than 2 of the model's last 10 were dropped.
func (t *Tables) SmartDrop(s *State, job int) bool {
	j := &s.Jobs[job]
	m := &t.models[j.Model]
	if max(s.Now, j.Ready)+m.Left(j.Layer, j.At) <= j.Deadline || len(m.triggers) > 0 || bits.OnesCount16(s.Recent[j.Model]) >= 2 {
		return false
	}
	missing := 0
	for n := range s.Jobs {
		x, m := &s.Jobs[n], &t.models[s.Jobs[n].Model]
		end := max(s.Now, x.Ready) + m.Left(x.Layer, x.At) // if all its originals ran at their fastest from now on
		if !x.Waiting() {
			end = s.End(x) + m.Left(x.Layer+1, x.On)
		}
		if end > x.Deadline {
			missing++
		}
	}
	return missing > 1
}
