package policy

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// plainAccounts keep accuracy floors once more. They remember how every request ended, and add it all up again for every
// question; what requests in the system owe, the state says.
type plainAccounts struct {
	sys       *sched.System
	prices    []float64
	originals bool
	finished  [][]int64 // by model: what requests that finished lost
	offers    []offer
	ahead     []int64       // by model: what requests lost that finished in a roll
	rolls     time.Duration // when the rolls began; 0 outside
	leasts    map[rest]time.Duration
}

// offer is the work of a request and when it ended.
type offer struct {
	work float64
	at   time.Duration
}

func newPlainAccounts(sys *sched.System, prices []float64, originals bool) *plainAccounts {
	n := len(sys.Models)
	return &plainAccounts{sys: sys, prices: prices, originals: originals, finished: make([][]int64, n), ahead: make([]int64, n),
		leasts: map[rest]time.Duration{}}
}

func (a *plainAccounts) ended(j sched.Job, o sched.Outcome, at time.Duration) {
	if a.spends(j.Model) && (o == sched.Met || o == sched.Late) {
		loss, _ := a.loss(j.Model, j.Used)
		a.finished[j.Model] = append(a.finished[j.Model], loss)
	}
	a.offers = append(a.offers, offer{workOf(a.prices, a.sys.Models[j.Model].Layers), at})
}

// promises reports whether any model has a floor.
func (a *plainAccounts) promises() bool {
	return slices.ContainsFunc(a.sys.Models, func(m sched.Model) bool { return m.Floor > 0 })
}

// onlyOriginals reports whether a model may use no variants.
func (a *plainAccounts) onlyOriginals(model int32) bool {
	return a.originals || a.sys.Models[model].Floor == 1
}

// spends reports whether a model may lose accuracy, but not all that theta allows.
func (a *plainAccounts) spends(model int32) bool {
	m := a.sys.Models[model]
	return !a.onlyOriginals(model) && m.Floor > 0 && m.Variants > 0
}

// loss is what a set loses, in billionths, if that is known.
func (a *plainAccounts) loss(model int32, used sched.VariantSet) (int64, bool) {
	m := a.sys.Models[model]
	at := slices.Index(m.Valid, used)
	switch {
	case used == 0:
		return 0, true
	case at < 0 || m.Accuracy == nil:
		return 0, false
	}
	return int64(math.Ceil(1e9*max(0, 1-m.Accuracy[at]) - 1e-3)), true
}

// owed is what the last 99 finished requests lost, and what those in the system would if they finished now.
func (a *plainAccounts) owed(s *sched.State, model int32) int64 {
	last := a.finished[model]
	sum := a.ahead[model]
	for _, x := range last[max(0, len(last)-(sched.AccuracyWindow-1)):] {
		sum += x
	}
	for _, j := range s.Jobs {
		if j.Model == model {
			loss, _ := a.loss(model, j.Used)
			sum += loss
		}
	}
	return sum
}

// limit is what a window's requests may lose together, or those that finished and one more.
func (a *plainAccounts) limit(model int32) int64 {
	each := int64(1e9*(1-a.sys.Models[model].Floor) + 1e-3)
	return each * int64(min(sched.AccuracyWindow, len(a.finished[model])+1))
}

// costs is what a request of this state would owe more with a variant, if it may use that.
func (a *plainAccounts) costs(s *sched.State, j sched.Job, variant int) (int64, bool) {
	m := a.sys.Models[j.Model]
	set := j.Used | 1<<(variant-1)
	switch {
	case a.onlyOriginals(j.Model) || !isValid(m, set):
		return 0, false
	case !a.spends(j.Model):
		return 0, true
	}
	before, _ := a.loss(j.Model, j.Used)
	after, known := a.loss(j.Model, set)
	more := after - before
	return more, known && (more <= 0 || a.owed(s, j.Model)+more <= a.limit(j.Model))
}

// toll is the price of the accuracy that a variant costs, as time.
func (a *plainAccounts) toll(s *sched.State, j sched.Job, variant int) float64 {
	more, _ := a.costs(s, j, variant)
	if !a.spends(j.Model) || more <= 0 {
		return 0
	}
	price := 1.0
	if limit := a.limit(j.Model); limit > 0 {
		share := float64(a.owed(s, j.Model)) / float64(limit)
		price = 0.1 + 0.9*share*share
	}
	m := a.sys.Models[j.Model]
	laxity := max(least*float64(m.Deadline), float64(j.Deadline-s.Now-shortest(m.Layers[j.Layer:], j.At)))
	pressure := max(least, a.load(s.Now)-pressing)
	return price * laxity / (pressure * pressure) / 1e9 * float64(more)
}

// load is what requests offered lately: a mean that fades, over the time since, too. In rolls it is that of where they
// begin.
func (a *plainAccounts) load(now time.Duration) float64 {
	if a.rolls > 0 {
		now = a.rolls
	}
	span := 0.0
	for _, m := range a.sys.Models {
		span += lookback * float64(m.Deadline) / float64(len(a.sys.Models))
	}
	work, over, at := 0.0, span/lookback, time.Duration(0)
	for _, o := range a.offers {
		dt := float64(o.at - at)
		fade := span / (span + dt)
		work, over, at = work*fade+o.work, (over+dt)*fade, o.at
	}
	return work / (over + float64(now-at))
}

// presses reports whether requests have offered so much work lately that variants save time, and not only requests.
func (a *plainAccounts) presses(now time.Duration, model int32) bool {
	return a.spends(model) && a.load(now) > pressing
}

// allowed are those of a job's options that the floor leaves.
func (a *plainAccounts) allowed(s *sched.State, j sched.Job, options []option) []option {
	return keep(options, func(o option) bool {
		if o.implementation == 0 {
			return true
		}
		_, ok := a.costs(s, j, a.variant(j, o.implementation))
		return ok
	})
}

// variant is the number of the variant that an implementation of the job's next layer is.
func (a *plainAccounts) variant(j sched.Job, implementation int) int {
	return a.sys.Models[j.Model].Layers[j.Layer].Implementations[implementation].Variant
}

// take notes in the state what a choice uses.
func (a *plainAccounts) take(s *sched.State, c sched.Choice) {
	j := &s.Jobs[c.Job]
	if v := a.variant(*j, int(c.Implementation)); v > 0 {
		j.Used |= 1 << (v - 1)
	}
}

// rest is what a request has yet to do: from a layer on whose inputs lie at an accelerator, after these variants.
type rest struct {
	model, layer, at int32
	used             sched.VariantSet
}

// least is the least that a request can still take, over whatever implementations and accelerators. It remembers.
func (a *plainAccounts) least(r rest) time.Duration {
	m := a.sys.Models[r.model]
	if int(r.layer) == len(m.Layers) {
		return 0
	}
	if known, ok := a.leasts[r]; ok {
		return known
	}
	least := time.Duration(1 << 62)
	for i, im := range m.Layers[r.layer].Implementations {
		next := rest{r.model, r.layer + 1, 0, r.used}
		if i > 0 {
			if next.used |= 1 << (im.Variant - 1); a.onlyOriginals(r.model) || !isValid(m, next.used) {
				continue
			}
		}
		for k, c := range im.Latency {
			if next.at = int32(k); c != sched.Unavailable {
				least = min(least, handoff(m.Layers[r.layer], r.at, k)+c+a.least(next))
			}
		}
	}
	a.leasts[r] = least
	return least
}

// plainBudget is Algorithm 2 with the price of accuracy.
type plainBudget struct {
	reference
}

// newPlainBudget takes the published algorithm where nothing is promised.
func newPlainBudget(sys *sched.System, prices []float64) plain {
	a := newPlainAccounts(sys, prices, false)
	if !a.promises() {
		return memoryless(reference{sys: sys}.terastal)
	}
	return plainBudget{reference{sys: sys, accounts: a}}
}

func (p plainBudget) choices(s *sched.State) []sched.Choice { return p.terastal(s) }
func (plainBudget) drops(*sched.State, int) bool            { return false }
func (plainBudget) paced(_, _ time.Duration)                {}
func (p plainBudget) ended(j sched.Job, o sched.Outcome, at time.Duration) {
	p.accounts.ended(j, o, at)
}

// tolled is when an option ends, and the price of its accuracy: next to everything while time does not press.
func (r reference) tolled(s *sched.State, j sched.Job, o option) time.Duration {
	if o.implementation == 0 {
		return o.counts()
	}
	price := time.Duration(min(float64(sched.Never/4), r.accounts.toll(s, j, r.accounts.variant(j, o.implementation))))
	if !r.accounts.presses(s.Now, j.Model) {
		price += sched.Never / 4
	}
	return o.counts() + price
}
