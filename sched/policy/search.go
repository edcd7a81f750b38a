package policy

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// search looks for the rule that should dispatch from a state on, by rolling every one ahead. It has its own memory, so
// that it can run while the engine works.
type search struct {
	*priced
	searchOptions
	rules  []sched.Policy
	roller *roller
	cur    int         // the rule that dispatches meanwhile
	next   int         // where the next search begins
	base   sched.State // where it starts
	mid    sched.State // where the rule that it finds takes over
	delay  time.Duration
	// What the last run found: its gain against going on as before, in misses
	// weighted by model, and how many events it rolled.
	gain   float64
	rolled int
}

// searchOptions bound a search.
type searchOptions struct {
	events  int     // rolled, at most
	touches int     // active requests, summed over these, at most
	good    float64 // a cost that needs no better
	margin  float64 // by which a rule has to be better than that which dispatches
}

// fallback is the rule that dispatches while queues are so long that a search is over before one rule was rolled to the
// horizon: priced EDF. The rule that was best while queues were short would otherwise stay.
const fallback = 0

func newSearch(p *priced, c sched.Config, o rolloutOptions) (*search, error) {
	rules, err := portfolio(p, c, o.originals)
	if err != nil {
		return nil, err
	}
	return &search{priced: p, searchOptions: o.searchOptions, rules: rules, roller: newRoller(p, c, o.rollOptions)}, nil
}

// prepare sets the state that the search starts from, in which these choices
// were taken, and the rule that dispatches for so long until it is over.
func (s *search) prepare(state *sched.State, taken []sched.Choice, cur int, delay time.Duration) {
	r := s.roller
	r.ahead.Reset(state)
	r.slow = s.pace.slow()
	r.ahead.Slow(r.slow)
	r.ahead.Apply(taken)
	s.base.CopyFrom(r.ahead.State())
	s.cur, s.delay = cur, delay
}

// run rolls the rules from the prepared state and returns the best. What it finds
// depends on that state and on the searches before it only.
func (s *search) run() int {
	b := bounds{s.events, s.touches}
	r := s.roller
	r.balance()
	r.giveUp(&s.base)
	r.start(&s.base, s.rules[s.cur])
	from := &s.base
	if s.delay > 0 {
		r.roll(s.base.Now+s.delay, math.Inf(1), &b)
		s.mid.CopyFrom(r.ahead.State())
		r.balance()
		from, r.cost = &s.mid, 0
		r.giveUp(from)
	}
	best := r.finish(max(s.base.Now+r.span, from.Now), math.Inf(1), &b)
	until := r.ahead.State().Now
	found := s.cur
	first := best
	if b.spent() {
		found = fallback
	} else if best > s.good {
		begin := s.next
		s.next = (s.next + 1) % len(s.rules)
		for n := range s.rules {
			i := (begin + n) % len(s.rules)
			if i == s.cur {
				continue
			}
			r.start(from, s.rules[i])
			cost := r.finish(until, best-s.margin, &b)
			if b.spent() {
				break
			}
			if cost < best-s.margin {
				if best, found = cost, i; best <= s.good {
					break
				}
			}
		}
	}
	s.gain, s.rolled = first-best, s.events-max(0, b.events)
	return found
}

// roller simulates ahead from a state by one rule, and says what the schedule costs.
type roller struct {
	*priced
	rollOptions
	ahead  *sched.Lookahead
	waste  float64 // cost of time taken beyond the cheapest, weighted with prices, per nanosecond
	slow   float64 // how much longer its layers take than the tables say
	cost   float64
	lost   []int64       // jobs that nothing can save
	span   time.Duration // how far ahead it rolls
	owed   []int64       // by model, of accuracy where rolls begin
	fading []float64     // by model: the laxity by which the cost of a completion in time falls by e
}

// rollOptions say what a rolled schedule costs and where it ends.
type rollOptions struct {
	horizon float64 // how far ahead, in mean relative deadlines of the models
	tight   float64 // cost of a completion just in time, in those of a miss
	fade    float64 // its decay with laxity, in the model's relative deadlines
	variant float64 // cost of a variant used
	spill   float64 // cost of time taken beyond the cheapest, in misses that it could prevent
}

// bounds end a roll early. They count down.
type bounds struct {
	events  int // completions
	touches int // active requests, summed over the completions
}

// spent reports whether a roll ended early for them.
func (b *bounds) spent() bool { return b.events < 0 || b.touches < 0 }

func newRoller(p *priced, c sched.Config, o rollOptions) *roller {
	r := &roller{priced: p, rollOptions: o, slow: 1}
	r.ahead = sched.NewLookahead(c, r.ended)
	mean := 0.0
	for i := range p.models {
		deadline := float64(p.t.Model(int32(i)).Deadline())
		r.fading = append(r.fading, o.fade*deadline)
		mean += deadline / float64(len(p.models))
	}
	r.waste = o.spill * p.density() / p.useful
	r.span = time.Duration(o.horizon * mean)
	return r
}

// ended adds the cost of an ended job.
func (r *roller) ended(j sched.Job, o sched.Outcome, at time.Duration) {
	if l := &r.ledgers[j.Model]; l.spends && o == sched.Dropped {
		l.owed -= l.loss(j.Used)
	}
	if o != sched.Met {
		r.miss(&j)
		return
	}
	r.cost += r.risk(&j, j.Deadline-at)
}

// miss adds the cost of a job that missed its deadline, or will, unless nothing could have saved it: rules are told
// apart sooner without what is the same for all.
func (r *roller) miss(j *sched.Job) {
	if !slices.Contains(r.lost, j.ID) {
		r.cost += r.models[j.Model].weight
	}
}

// risk is the cost of a job that ends, or can end, this much before its deadline.
func (r *roller) risk(j *sched.Job, laxity time.Duration) float64 {
	x := 0.0
	if !r.ledgers[j.Model].spends { // else the ledger says how many
		x = r.variant * float64(j.Used.Len())
	}
	if r.tight > 0 {
		x += r.tight * r.models[j.Model].weight * math.Exp(-float64(laxity)/r.fading[j.Model])
	}
	return x
}

// laxity is what a job has to spare if nothing holds it up from now on.
func (r *roller) laxity(s *sched.State, j *sched.Job) time.Duration {
	at, l, from := max(s.Now, j.Ready), j.Layer, j.At
	if !j.Waiting() {
		at, l, from = s.End(j), l+1, j.On
	}
	least := r.least(j.Model, j.Used, l, from)
	if r.slow != 1 {
		least = time.Duration(r.slow * float64(least))
	}
	return j.Deadline - at - least
}

// giveUp notes the jobs that no rule can save from a state on.
func (r *roller) giveUp(s *sched.State) {
	r.lost = r.lost[:0]
	for i := range s.Jobs {
		if j := &s.Jobs[i]; r.laxity(s, j) < 0 {
			r.lost = append(r.lost, j.ID)
		}
	}
}

// balance makes rolls begin with what is owed now.
func (r *roller) balance() {
	r.owed = r.owed[:0]
	for i := range r.ledgers {
		r.owed = append(r.owed, r.ledgers[i].owed)
	}
}

// start lets a rule dispatch from the state on.
func (r *roller) start(s *sched.State, rule sched.Policy) {
	r.ahead.Reset(s)
	r.cost = 0
	for i, x := range r.owed {
		r.ledgers[i].owed = x
	}
	r.ahead.Decide(rule)
}

// roll proceeds to an instant, or until the schedule has cost more than the most
// or the bounds are reached, where it stops.
func (r *roller) roll(until time.Duration, most float64, b *bounds) {
	s := r.ahead.State()
	for r.cost <= most {
		k := r.ahead.Next(until)
		if k < 0 {
			return
		}
		r.wasted(s, k)
		b.events--
		b.touches -= len(s.Jobs)
		if b.spent() {
			return
		}
		r.ahead.Complete(k)
	}
}

// wasted adds the cost of the time that a layer takes on accelerator k beyond what would be cheapest: what comes next may
// miss its deadline for want of it, and rolls do not see what arrives. What was announced to end began before them.
func (r *roller) wasted(s *sched.State, k int) {
	a := &s.Accelerators[k]
	if len(s.Tails) > 0 && s.Tails[k].Job != sched.Idle {
		return
	}
	for i := range s.Jobs {
		if j := &s.Jobs[i]; j.ID == a.Job {
			work := r.models[j.Model].work
			cheapest := (work[j.Layer] - work[j.Layer+1]) * r.useful
			r.cost += r.waste * (r.prices[k]*float64(a.Free-a.Started) - cheapest)
			return
		}
	}
}

// finish rolls and returns the cost, that of the jobs that are left included; it
// is more than the most if the roll was given up for that.
func (r *roller) finish(until time.Duration, most float64, b *bounds) float64 {
	r.roll(until, most, b)
	s := r.ahead.State()
	for i := range s.Jobs {
		if r.cost > most {
			break
		}
		j := &s.Jobs[i]
		if laxity := r.laxity(s, j); laxity < 0 {
			r.miss(j)
		} else {
			r.cost += r.risk(j, laxity)
		}
	}
	return r.cost
}
