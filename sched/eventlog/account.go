package eventlog

import (
	"math"
	"math/bits"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
)

// AccuracyOf is the normalised accuracy of a request that used these variants: measured, or, with an additive bound,
// what the bound leaves. It is 1 for the empty set and NaN when it is unknown. An [Account] does not search for each.
func AccuracyOf(m *sched.Model, used sched.VariantSet) float64 {
	if used == 0 || m.Loss != nil {
		return bounded(m, used)
	}
	for i, s := range m.Valid {
		if s == used && i < len(m.Accuracy) {
			return m.Accuracy[i]
		}
	}
	return math.NaN()
}

// bounded is what an additive bound leaves.
func bounded(m *sched.Model, used sched.VariantSet) float64 {
	left := 1.0
	for ; used != 0; used &= used - 1 {
		i := bits.TrailingZeros64(uint64(used))
		if i >= len(m.Loss) {
			return math.NaN()
		}
		left -= m.Loss[i]
	}
	return left
}

// Account adds up what one model's finished requests kept of the accuracy, in the order in which they finish. Its
// memory does not grow.
type Account struct {
	model  *sched.Model
	at     map[sched.VariantSet]int // in Valid
	n      int
	kept   float64 // sum of accuracies
	lost   float64 // sum of losses
	spread float64 // sum of standard errors
	recent [sched.AccuracyWindow]float64
	inside float64 // sum of the losses that are in recent
	least  float64 // of the means over windows so far
}

// NewAccount makes the account of a model, which must not change.
func NewAccount(m *sched.Model) *Account {
	a := &Account{model: m, at: make(map[sched.VariantSet]int, len(m.Valid)), least: 1}
	for i, s := range m.Valid {
		a.at[s] = i
	}
	return a
}

// Accuracy is [AccuracyOf] in constant time, with the standard error: NaN where that is unknown.
func (a *Account) Accuracy(used sched.VariantSet) (accuracy, standardError float64) {
	if used == 0 {
		return 1, 0
	}
	accuracy, standardError = math.NaN(), math.NaN()
	if a.model.Loss != nil {
		return bounded(a.model, used), standardError
	}
	if i, ok := a.at[used]; ok {
		if i < len(a.model.Accuracy) {
			accuracy = a.model.Accuracy[i]
		}
		if i < len(a.model.AccuracyError) {
			standardError = a.model.AccuracyError[i]
		}
	}
	return accuracy, standardError
}

// Finish counts a request that finished, with the variants that it used.
func (a *Account) Finish(used sched.VariantSet) {
	accuracy, spread := a.Accuracy(used)
	lost := 1 - accuracy
	if lost < 0 {
		lost = 0 // what was measured above 1 is noise and earns no credit
	}
	a.kept, a.lost, a.spread = a.kept+accuracy, a.lost+lost, a.spread+spread
	slot := a.n % len(a.recent)
	a.inside += lost - a.recent[slot]
	a.recent[slot] = lost
	if a.n++; slot == len(a.recent)-1 { // so that rounding does not add up
		a.inside = 0
		for _, x := range a.recent {
			a.inside += x
		}
	}
	if mean := a.Recent(); mean < a.least || math.IsNaN(mean) {
		a.least = mean
	}
}

// Finished is how many requests were counted.
func (a *Account) Finished() int { return a.n }

// Mean is the mean normalised accuracy of the requests as measured; 1 of none, NaN where that of one is unknown.
func (a *Account) Mean() float64 {
	if a.n == 0 {
		return 1
	}
	return a.kept / float64(a.n)
}

// Delivered is the mean of what they are held to have kept: the same, with what was measured above 1 taken for 1. This
// is what a floor is held against.
func (a *Account) Delivered() float64 { return 1 - a.lost/float64(max(1, a.n)) }

// Recent is Delivered over the last [sched.AccuracyWindow] requests, or over all where there were fewer.
func (a *Account) Recent() float64 { return 1 - a.inside/float64(max(1, min(a.n, len(a.recent)))) }

// Worst is the least that Recent ever was.
func (a *Account) Worst() float64 { return a.least }

// Interval holds the mean accuracy with 95 % confidence, as far as the accuracy of sets of variants was measured on few
// requests: NaN where a standard error is unknown. All sets were measured on the same requests, so that their errors
// may all point the same way; the interval is that wide.
func (a *Account) Interval() (low, high float64) {
	x, reach := a.Mean(), stats.Normal95*a.spread/float64(max(1, a.n))
	return x - reach, x + reach
}

// accounts are those of the log's models, of no request.
func (l *Log) accounts() []*Account {
	out := make([]*Account, len(l.Header.System.Models))
	for m := range out {
		out[m] = NewAccount(&l.Header.System.Models[m])
	}
	return out
}

// metrics fills in what the account says of its model.
func (a *Account) metrics(m *ModelMetrics) {
	m.NormalizedAccuracy = known(a.Mean())
	if a.n > 0 && a.model.AccuracyError != nil {
		low, high := a.Interval()
		m.AccuracyLow, m.AccuracyHigh = known(low), known(high)
	}
	if m.AccuracyFloor = a.model.Floor; a.n > 0 && a.model.Floor > 0 {
		m.DeliveredAccuracy, m.WorstWindow = known(a.Delivered()), known(a.Worst())
	}
}

// known is x, nil where it is no number.
func known(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
