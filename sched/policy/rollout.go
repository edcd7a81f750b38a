package policy

import (
	"fmt"
	"time"

	"github.com/terastal/terastal/sched"
)

// Rollout dispatches by one of many rules and looks for the best one, again and again, by short simulations ahead of
// every rule from the current state. It searches when a request arrives, after one missed its deadline or was dropped,
// and after a number of other events. Dispatching goes first, by the rule that was best so far; accelerators that this
// leaves idle are offered to the one found.
//
// Searches can run on another goroutine: it is a [sched.Searcher]. A search then models its own delay: until it is
// expected to be over, schedules are rolled by the rule that dispatches meanwhile. A rule that was found holds for some
// decisions; without a later result the policy is priced EDF again, the first rule. It searches one time in probing
// only while searches do not pay for their time: when the mean gain of one, in weighted misses, is below the misses
// that the accelerators could have prevented in the share of their time that a search takes from them:
//
//	gain < share * duration * sum(weight * rate) / sum(rate * work)
func Rollout(c sched.Config) (sched.Policy, error) { return newRollout(c, defaultRollout()) }

func rolloutOriginals(c sched.Config) (sched.Policy, error) {
	o := defaultRollout()
	o.originals = true
	return newRollout(c, o)
}

type rollout struct {
	*priced
	rolloutOptions
	cfg      sched.Config
	rules    []sched.Policy
	cur      int
	search   *search
	detached bool    // searches run on another goroutine
	share    float64 // of all accelerators' time that they take
	wanted   bool    // a search is due
	applied  bool    // this step takes in a result
	since    int     // events since the last search
	alarm    bool    // a miss or drop since
	gain     float64
	age      float64 // mean time from the snapshot of a search to its result
	density  float64 // misses prevented per nanosecond of all accelerators
	skipped  int     // searches, since the last, that would not have paid
	held     int     // decisions since a result was taken in
}

// rolloutOptions are the policy's.
type rolloutOptions struct {
	rollOptions
	searchOptions
	every     int  // events from one search to the next, at most
	originals bool // never use variants
}

func defaultRollout() rolloutOptions {
	return rolloutOptions{rollOptions: rollOptions{horizon: 1, tight: 0.1, fade: 0.05, variant: 0.002, spill: 0.1},
		searchOptions: searchOptions{events: 1000, touches: 20_000, good: 0.02, margin: 0.01}, every: 3}
}

const (
	// smoothing is the share of the last search in the means over searches.
	smoothing = 1.0 / 16
	// probing is how many due searches a policy that does not search skips. On two cores without a spare one, 64 cost 2 to
	// 3 % of their time, which under overload is worth more than what the searches found.
	probing = 1024
	// holding is for how many decisions a rule holds that was found on another
	// goroutine: what it was found for is over then.
	holding = 32
)

func newRollout(c sched.Config, o rolloutOptions) (*rollout, error) {
	p, err := newPriced(c.Tables, o.originals)
	if err != nil {
		return nil, err
	}
	r := &rollout{priced: p, rolloutOptions: o, cfg: c}
	if r.rules, err = portfolio(p, c, o.originals); err != nil {
		return nil, err
	}
	own := *p
	own.accounts = p.accounts.copied(p.t)
	if r.search, err = newSearch(&own, c, o); err != nil {
		return nil, err
	}
	r.density = p.density()
	return r, nil
}

// portfolio makes the rules that rollouts choose from. The first is priced EDF.
func portfolio(p *priced, c sched.Config, originals bool) ([]sched.Policy, error) {
	var out []sched.Policy
	for _, o := range portfolioRules() {
		out = append(out, newPricedRule(p, &c, o))
	}
	published := sched.TerastalOptions{Originals: originals}
	if p.accounts.spends {
		published.Accuracy = p.accounts
	}
	laxity, half := published, published
	laxity.Laxity, half.Laxity = 1, 0.5
	for _, of := range []sched.Constructor{published.New, laxity.New, half.New, sched.FCFS, sched.EDF} {
		rule, err := of(c)
		if err != nil {
			return nil, err
		}
		out = append(out, rule)
	}
	return out, nil
}

// portfolioRules are the priced rules of the portfolio.
func portfolioRules() []ruleOptions {
	return []ruleOptions{
		pricedEDF(),
		{order: byDeadline, gain: 1, admission: true, caution: 0.6, margin: 0.3},
		{order: byHalfLaxity, gain: 2, admission: true, dynamic: true, margin: 0.3},
		{order: byLaxity, gain: 1, admission: true, dynamic: true, margin: 0.3},
		{order: byArrival, gain: 2, dynamic: true, margin: 0.3},
		{order: byDeadline, margin: 0.3},
		{order: byDeadline, gain: 8, admission: true, margin: 0.3},
		{order: byArrival, margin: 0.3},
		{order: byHalfLaxity, gain: 4, caution: 0.6, margin: 0.3},
	}
}

func (p *rollout) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	first := len(out)
	if p.held++; p.detached && p.held > holding {
		p.cur = fallback
	}
	out = p.rules[p.cur].Select(s, out)
	if p.applied { // a result is no news
		p.applied = false
		return out
	}
	p.since++
	if p.since >= p.every || p.alarm || arrived(s) {
		p.wanted = true
	}
	if !p.wanted || p.detached {
		return out
	}
	p.noted()
	if len(s.Jobs) == 0 {
		return out
	}
	p.prepare(s, out[first:], 0)
	found := p.search.run()
	if found == p.cur {
		return out
	}
	p.cur = found
	return p.rules[p.cur].Select(&p.search.base, out)
}

// prepare tells the search what the policy knows, and where it starts; see [search.prepare].
func (p *rollout) prepare(s *sched.State, taken []sched.Choice, delay time.Duration) {
	p.search.pace = p.pace
	p.search.accounts.copyFrom(p.accounts, s.Now)
	p.search.prepare(s, taken, p.cur, delay)
}

// noted forgets why a search was due.
func (p *rollout) noted() { p.wanted, p.alarm, p.since = false, false, 0 }

// arrived reports whether a request was released at this instant.
func arrived(s *sched.State) bool {
	if len(s.Jobs) == 0 {
		return false
	}
	j := &s.Jobs[len(s.Jobs)-1]
	return j.Layer == 0 && j.Ready == s.Now && j.Waiting()
}

func (p *rollout) Completed(predicted, took time.Duration) { p.pace.observe(predicted, took) }

// Ended takes note of misses and drops, and of what was offered and owed.
func (p *rollout) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	p.ended(&j, o, at)
	p.alarm = p.alarm || o != sched.Met
}

func (*rollout) GiveUp(*sched.State, int) int { return -1 }

// Detach gives the search its own memory, tables included where the engine adapts them.
func (p *rollout) Detach(share float64) func() int {
	own := *p.priced // the pace is copied with each state
	c := p.cfg
	if c.Adapt {
		own.t = p.t.Clone()
		c.Tables = own.t
	}
	own.accounts = p.accounts.copied(own.t)
	s, err := newSearch(&own, c, p.rolloutOptions)
	if err != nil { // the same was made in the constructor
		panic(fmt.Sprintf("policy: %v", err))
	}
	p.detached, p.share, p.search = true, share, s
	return s.run
}

// Prepare leaves a search out while searches do not pay.
func (p *rollout) Prepare(state *sched.State) bool {
	if !p.wanted {
		return false
	}
	p.noted()
	if len(state.Jobs) == 0 {
		return false
	}
	if p.gain < p.share*p.age*p.density {
		if p.skipped++; p.skipped < probing {
			return false
		}
	}
	p.skipped = 0
	if p.cfg.Adapt {
		p.search.t.CopyFrom(p.t)
	}
	p.prepare(state, nil, time.Duration(p.age))
	return true
}

// Searched dispatches by the rule that was found from now on.
func (p *rollout) Searched(found int, age time.Duration) {
	if found < 0 || found >= len(p.rules) {
		panic(fmt.Sprintf("policy: search found rule %d of %d", found, len(p.rules)))
	}
	p.cur, p.applied, p.held = found, true, 0
	p.gain += smoothing * (p.search.gain - p.gain)
	p.age += smoothing * (float64(age) - p.age)
}
