package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// keptOver is what a model's requests kept of the accuracy over several runs.
type keptOver struct {
	mean, low, high, delivered weighted
	worst                      *float64
}

// weighted is a mean over runs, by how many requests finished in each; of runs in which it is known.
type weighted struct {
	sum float64
	n   int
}

func (w *weighted) add(x *float64, finished int) {
	if x != nil {
		w.sum, w.n = w.sum+*x*float64(finished), w.n+finished
	}
}

func (w *weighted) mean() *float64 {
	if w.n == 0 {
		return nil
	}
	x := w.sum / float64(w.n)
	return &x
}

// add takes a run into account. Errors of the accuracies measured are the same in all runs, so that ends of intervals
// add up as means do.
func (k *keptOver) add(x *eventlog.ModelMetrics) {
	n := x.Met + x.Late
	if n == 0 {
		return
	}
	k.mean.add(x.NormalizedAccuracy, n)
	k.low.add(x.AccuracyLow, n)
	k.high.add(x.AccuracyHigh, n)
	k.delivered.add(x.DeliveredAccuracy, n)
	if x.WorstWindow != nil && (k.worst == nil || *x.WorstWindow < *k.worst) {
		k.worst = x.WorstWindow
	}
}

// into puts it into the model's metrics over all runs.
func (k *keptOver) into(x *eventlog.ModelMetrics) {
	x.NormalizedAccuracy, x.DeliveredAccuracy, x.WorstWindow = k.mean.mean(), k.delivered.mean(), k.worst
	x.AccuracyLow, x.AccuracyHigh = nil, nil
	if k.low.n == k.mean.n {
		x.AccuracyLow, x.AccuracyHigh = k.low.mean(), k.high.mean()
	}
}

// accuracyInterval words the interval of what a model's requests kept; empty where it is unknown.
func accuracyInterval(m *eventlog.ModelMetrics) string {
	if m.AccuracyLow == nil || m.AccuracyHigh == nil {
		return ""
	}
	return between(kept(*m.AccuracyLow), kept(*m.AccuracyHigh))
}

// floorText words an accuracy floor; empty without one.
func floorText(floor float64) string {
	if floor == 0 {
		return ""
	}
	return fmt.Sprintf("%.6g %%", 100*floor)
}

// worstText words the worst window of a model that was promised something, marked where it is below the floor.
func worstText(m *eventlog.ModelMetrics) string {
	if m.AccuracyFloor == 0 || m.WorstWindow == nil {
		return ""
	}
	if *m.WorstWindow < m.AccuracyFloor-1e-9 {
		return kept(*m.WorstWindow) + "!"
	}
	return kept(*m.WorstWindow)
}

// anyFloor reports whether any model was promised anything.
func anyFloor(all []*series) bool {
	return slices.ContainsFunc(all, func(s *series) bool {
		return slices.ContainsFunc(s.models, func(m outcomes) bool { return m.AccuracyFloor > 0 })
	})
}

// worstColumn is the head of the column of worst windows.
var worstColumn = fmt.Sprintf(">worst of %d", sched.AccuracyWindow)

// intervalNote says what intervals of accuracies are.
const intervalNote = "interval of the accuracy kept: 95 %, as far as the accuracy of variants was measured on few requests " +
	"(on all of them the same, so that it does not narrow with more runs)"

// explainFloor says what the columns about the promise are; over is over which runs.
func explainFloor(t *table.Table, over string) {
	t.Explain("floor", "floor: the share of the accuracy that a model's finished requests are promised to keep on the mean")
	name := strings.TrimPrefix(worstColumn, ">")
	t.Explain(name, "%s: the least that %d of them in a row kept%s, or the first ones of a run (!: less than the floor)", name,
		sched.AccuracyWindow, over)
}
