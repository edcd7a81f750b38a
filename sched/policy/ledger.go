package policy

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// ledger accounts for the accuracy of one model's requests, in billionths of that of one request, so that sums are exact.
// A request owes what the set of variants loses that it has used so far. What the last [sched.AccuracyWindow] - 1
// finished requests lost and those in the system owe together is never more than a window of requests may lose at the
// floor, or one request more than have finished so far. Whatever finishes next, in whatever order, keeps the promise.
type ledger struct {
	spends    bool // there is a floor, and it is below 1
	originals bool // the floor is 1
	allowance int64
	sets      []int32 // loss by set of variants; nil with a bound
	each      []int64 // loss by variant, with a bound
	owed      int64
	limit     int64   // of what is owed
	recent    []int64 // losses of the last finished requests, in a ring
	next      int
}

// whole is the accuracy of one request.
const whole = 1e9

func newLedger(m *sched.Model) ledger {
	if m.Floor == 0 || m.Floor == 1 || m.Variants == 0 {
		return ledger{originals: m.Floor == 1}
	}
	l := ledger{spends: true, allowance: int64(whole*(1-m.Floor) + 1e-3)}
	l.limit = l.allowance
	l.recent = make([]int64, 0, sched.AccuracyWindow-1)
	if m.Loss != nil {
		for _, x := range m.Loss {
			l.each = append(l.each, lossOf(min(x, 2*sched.AccuracyWindow))) // more than a window may lose
		}
		return l
	}
	l.sets = make([]int32, 1<<m.Variants)
	for s := range l.sets[1:] {
		l.sets[1+s] = unusable
	}
	for i, s := range m.Valid {
		if s > 0 && i < len(m.Accuracy) && m.Accuracy[i] > 1-mostLost {
			l.sets[s] = int32(lossOf(max(0, 1-m.Accuracy[i])))
		}
	}
	return l
}

const (
	// unusable is the loss of sets that are not valid, and of those of which nobody knows what they lose.
	unusable = math.MaxInt32
	// mostLost bounds what a set loses: accuracies can be below 0.
	mostLost = 2
)

// lossOf is a loss in billionths, rounded up.
func lossOf(loss float64) int64 { return int64(math.Ceil(whole*loss - 1e-3)) }

// loss is what a request loses that has used these variants.
func (l *ledger) loss(used sched.VariantSet) int64 {
	if l.each == nil {
		return int64(l.sets[used])
	}
	sum := int64(0)
	for ; used != 0; used &= used - 1 {
		sum += l.each[bits.TrailingZeros64(uint64(used))]
	}
	return sum
}

// more is what a request would owe more with an allowed variant, and whether the promise allows that.
func (l *ledger) more(used, variant sched.VariantSet) (int64, bool) {
	loss := l.loss(used | variant)
	d := loss - l.loss(used)
	return d, loss != unusable && (d <= 0 || l.owed+d <= l.limit)
}

// price is what accuracy is worth, without a unit: it grows tenfold as what is owed nears what may be.
func (l *ledger) price() float64 {
	if l.limit == 0 {
		return 1
	}
	share := float64(l.owed) / float64(l.limit)
	return 0.1 + 0.9*share*share
}

// ended settles what a request owed.
func (l *ledger) ended(used sched.VariantSet, o sched.Outcome) {
	if !l.spends {
		return
	}
	loss := l.loss(used)
	switch {
	case o != sched.Met && o != sched.Late:
		l.owed -= loss
	case len(l.recent) < cap(l.recent):
		l.recent = append(l.recent, loss)
		l.limit += l.allowance
	default:
		l.owed -= l.recent[l.next]
		l.recent[l.next] = loss
		l.next = (l.next + 1) % len(l.recent)
	}
}

// offered is the load that requests offer, as a share of what the accelerators can do with originals: a moving average
// over those that ended, and the time since.
type offered struct {
	span       float64 // in nanoseconds, that it looks back
	work, time float64 // both fade
	at         time.Duration
}

func (o *offered) add(work float64, at time.Duration) {
	dt := float64(at - o.at)
	fade := o.span / (o.span + dt)
	o.at, o.work, o.time = at, o.work*fade+work, (o.time+dt)*fade
}

func (o *offered) load(now time.Duration) float64 {
	return o.work / (o.time + max(0, float64(now-o.at)))
}

// accounts are the ledgers of a system's models, and what load they see. The rules of a policy share them; searches have
// a copy.
type accounts struct {
	t       *sched.Tables
	ledgers []ledger
	offered
	spends bool // some model does, or may not at all: its floor is 1
}

func newAccounts(t *sched.Tables, originals bool) *accounts {
	sys := t.System()
	a := &accounts{t: t}
	for i := range sys.Models {
		m := &sys.Models[i]
		l := ledger{originals: true}
		if !originals {
			l = newLedger(m)
		}
		a.ledgers = append(a.ledgers, l)
		a.spends = a.spends || l.spends || m.Floor == 1
		a.span += lookback * float64(m.Deadline) / float64(len(sys.Models))
	}
	a.time = a.span / lookback // idle so long: the first request is no load yet
	return a
}

// Time presses from this load on. Below it originals have time enough; what bursts leave no time for, variants save as a
// last resort. lookback is how far back the load looks, in mean relative deadlines.
const (
	pressing = 0.5
	lookback = 20
)

// presses reports whether a model's variants may be used to save time, and not only requests.
func (a *accounts) presses(now time.Duration, model int32) bool {
	return a.ledgers[model].spends && a.load(now) > pressing
}

// Requests with less laxity than this share of their relative deadline, and loads that press less than this, count with
// that much: accuracy is never free, and never beyond price.
const least = 0.05

// rate is what a job pays for a billionth of its accuracy, as time in nanoseconds:
//
//	price * laxity / (load - pressing)^2
//
// A request with little to spare buys time sooner than one with plenty, and all do when the load is high. The numbers were
// found on the published systems and the demo's; from a quarter of the rate to 2.5 times, miss rates stay within 2 %.
func (a *accounts) rate(now time.Duration, j *sched.Job) float64 {
	m := a.t.Model(j.Model)
	laxity := max(least*float64(m.Deadline()), float64(j.Deadline-now-m.Left(j.Layer, j.At)))
	pressure := max(least, a.load(now)-pressing)
	return a.ledgers[j.Model].price() * laxity / (pressure * pressure) / whole
}

// toll is the price of the accuracy that a variant of the job's next layer would cost at a rate, and whether it may be
// used. Only where the model spends accuracy is there one.
func (a *accounts) toll(j *sched.Job, implementation int32, rate float64) (float64, bool) {
	m := a.t.Model(j.Model)
	v, l := m.Variant(j.Layer, implementation), &a.ledgers[j.Model]
	if l.originals || !m.Allowed(j.Used, v) {
		return 0, false
	}
	if !l.spends {
		return 0, true
	}
	d, ok := l.more(j.Used, v)
	return rate * float64(max(0, d)), ok
}

// Price is the toll of a variant for [sched.TerastalOptions]. While time does not press, the price is so high that only
// requests are saved.
func (a *accounts) Price(now time.Duration, j *sched.Job, implementation int32) time.Duration {
	toll, ok := a.toll(j, implementation, a.rate(now, j))
	if !ok {
		return sched.Never
	}
	price := time.Duration(min(toll, float64(sched.Never/4)))
	if !a.presses(now, j.Model) {
		price += sched.Never / 4
	}
	return price
}

// Spend books what a choice owes.
func (a *accounts) Spend(j *sched.Job, implementation int32) {
	if l := &a.ledgers[j.Model]; l.spends && implementation > 0 {
		d, _ := l.more(j.Used, a.t.Model(j.Model).Variant(j.Layer, implementation))
		l.owed += d
	}
}

// copied are accounts of the same models, which share only what never changes, over tables of the caller's.
func (a *accounts) copied(t *sched.Tables) *accounts {
	c := *a
	c.t, c.ledgers = t, slices.Clone(a.ledgers)
	for i := range c.ledgers {
		c.ledgers[i].recent = nil // searches end before a window does
	}
	return &c
}

// copyFrom takes over balances and load, not what they come from. Searches roll ahead at the load of now.
func (a *accounts) copyFrom(o *accounts, now time.Duration) {
	a.offered = offered{work: o.load(now), time: 1, at: sched.Never}
	for i := range o.ledgers {
		a.ledgers[i].owed, a.ledgers[i].limit = o.ledgers[i].owed, o.ledgers[i].limit
	}
}
