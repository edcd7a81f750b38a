package policy

import (
	"math"
	"math/bits"
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
	l := ledger{spends: true, allowance: int64(whole * (1 - m.Floor) * (1 + 1e-12))}
	l.limit = l.allowance
	l.recent = make([]int64, 0, sched.AccuracyWindow-1)
	if m.Loss != nil {
		for _, x := range m.Loss {
			l.each = append(l.each, lossOf(1-x))
		}
		return l
	}
	l.sets = make([]int32, 1<<m.Variants)
	for s := range l.sets[1:] {
		l.sets[1+s] = whole // as far as is known
	}
	for i, s := range m.Valid {
		if s > 0 && i < len(m.Accuracy) {
			l.sets[s] = int32(lossOf(m.Accuracy[i]))
		}
	}
	return l
}

// lossOf is the loss of a normalised accuracy, rounded up. More than 1 is luck of the measurement and earns nothing.
func lossOf(accuracy float64) int64 {
	return int64(math.Ceil(whole*min(1, max(0, 1-accuracy)) - 1e-3))
}

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

// more is what a request would owe more with a variant, and whether the promise allows that.
func (l *ledger) more(used, variant sched.VariantSet) (int64, bool) {
	d := l.loss(used|variant) - l.loss(used)
	return d, d <= 0 || l.owed+d <= l.limit
}

// share is how much of what may be owed is, 0 to 1.
func (l *ledger) share() float64 {
	if l.limit <= 0 {
		return 1
	}
	return float64(l.owed) / float64(l.limit)
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

// offered is the load that requests offer, as a share of what the accelerators can do with originals: a moving average.
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

func (o *offered) load() float64 {
	if o.time <= 0 {
		return 0
	}
	return o.work / o.time
}

// accounts are the ledgers of a system's models, and what load they see. The rules of a policy share them; searches have
// a copy.
type accounts struct {
	t       *sched.Tables
	ledgers []ledger
	offered
	spends bool // some model does
}

func newAccounts(t *sched.Tables, originals bool) *accounts {
	sys := t.System()
	a := &accounts{t: t}
	for i := range sys.Models {
		m := sys.Models[i]
		if originals {
			m.Floor = 1
		}
		l := newLedger(&m)
		a.ledgers = append(a.ledgers, l)
		a.spends = a.spends || l.spends
		a.span += xSpan * float64(m.Deadline) / float64(len(sys.Models))
	}
	return a
}

// pressed reports whether variants may be used to save time, and not only requests.
func (a *accounts) pressed() bool { return a.load() > xPress }

// spend books what a choice owes.
func (a *accounts) spend(j *sched.Job, implementation int32) {
	if l := &a.ledgers[j.Model]; l.spends && implementation > 0 {
		d, _ := l.more(j.Used, a.t.Model(j.Model).Variant(j.Layer, implementation))
		l.owed += d
	}
}

// toll is the price of the accuracy that an implementation of the job's next layer would cost, as time in nanoseconds,
// and whether it may be used.
func (a *accounts) toll(now time.Duration, j *sched.Job, implementation int32) (float64, bool) {
	m := a.t.Model(j.Model)
	v := m.Variant(j.Layer, implementation)
	if v == 0 {
		return 0, true
	}
	l := &a.ledgers[j.Model]
	if l.originals || !m.Allowed(j.Used, v) {
		return 0, false
	}
	if !l.spends {
		return 0, true
	}
	d, ok := l.more(j.Used, v)
	if !ok || d <= 0 {
		return 0, ok
	}
	left := float64(m.Remaining(j.Layer))
	laxity := max(0.05, (float64(j.Deadline-now)-left)/left)
	return xMu * math.Pow(xMuHigh/xMu, l.share()) * laxity * float64(m.Deadline()) * float64(d) / whole, true
}

// Price and Spend make it a [sched.Accuracy].
func (a *accounts) Price(now time.Duration, j *sched.Job, implementation int32) time.Duration {
	x, ok := a.toll(now, j, implementation)
	switch {
	case !ok:
		return sched.Never
	case !a.pressed(): // a last resort
		return sched.Never/4 + time.Duration(x)
	}
	return time.Duration(x)
}

// Spend makes it a [sched.Accuracy].
func (a *accounts) Spend(j *sched.Job, implementation int32) { a.spend(j, implementation) }

// copyFrom takes over balances, not what they are made of.
func (a *accounts) copyFrom(o *accounts) {
	a.offered = o.offered
	for i := range o.ledgers {
		a.ledgers[i].owed, a.ledgers[i].limit = o.ledgers[i].owed, o.ledgers[i].limit
	}
}

var (
	xSpan   = 20.0
	xPress  = 0.5
	xMu     = 0.1
	xMuHigh = 1.0
	xRoll   = 1.0
)
