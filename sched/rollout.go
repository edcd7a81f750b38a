package sched

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// rollout dispatches by one of many rules and looks for the best one, again and
// again, by short simulations ahead of every rule from the current state. It
// searches when a request arrives, after one missed its deadline or was dropped,
// and after a number of other events. Dispatching goes first, by the rule that
// was best so far; accelerators that this leaves idle are offered to the one
// found.
//
// A search models its own delay: until it is expected to be over, schedules are
// rolled by the rule that dispatches meanwhile.
//
// Beside the engine (see Search), a rule that was found holds for some decisions;
// without a later result the policy is priced EDF again, the first rule. It
// searches one time in probing only while searches do not pay for their time: when the mean gain of one, in weighted
// misses, is below the misses that the accelerators could have prevented in the
// share of their time that a search takes from them (SearchShare):
//
//	gain < share * duration * sum(weight * rate) / sum(rate * work)
type rollout struct {
	*priced
	rolloutOptions
	cfg     Config
	rules   []Policy
	cur     int
	search  *Search
	beside  bool
	wanted  bool // a search is due
	applied bool // this step takes in a result
	since   int  // events since the last search
	alarm   bool // a miss or drop since
	gain    float64
	age     float64 // mean time from the snapshot of a search to its result
	density float64 // misses prevented per nanosecond of all accelerators
	skipped int     // searches, since the last, that would not have paid
	held    int     // decisions since a result was taken in
}

// rolloutOptions are the policy's. Those that docs/EVALUATION-ROLLOUT.md compares
// are changed by the policy's name; see FindPolicy.
type rolloutOptions struct {
	rollOptions
	searchOptions
	every int    // events from one search to the next, at most
	rules string // of the portfolio; empty for all
}

func defaultRollout() rolloutOptions {
	return rolloutOptions{rollOptions: rollOptions{horizon: 1, tight: 0.1, fade: 0.05, variant: 0.002},
		searchOptions: searchOptions{events: 1000, touches: 20_000, good: 0.02, margin: 0.01}, every: 3}
}

const (
	// smoothing is the share of the last search in the means over searches.
	smoothing = 1.0 / 16
	// probing is how many due searches a policy that does not search skips. On
	// two cores without a spare one, 64 cost 2 to 3 % of their time, which under
	// overload is worth more than what the searches found (docs/HARDWARE.md).
	probing = 1024
	// holding is for how many decisions a rule that was found beside the engine
	// holds: what it was found for is over.
	holding = 32
)

func newRollout(t *Tables) Policy { return newRolloutWith(t, defaultRollout()) }

func newRolloutWith(t *Tables, o rolloutOptions) Policy {
	p := newPriced(t)
	r := &rollout{priced: p, rolloutOptions: o, rules: portfolio(p, o.rules)}
	value, work := 0.0, 0.0
	for i := range p.models {
		m := &p.models[i]
		value += m.weight / m.period
		work += m.work[0] / m.period
	}
	r.density = value / work
	r.configure(&Config{Tables: t})
	return r
}

// configure makes what rolls ahead as the engine will go on.
func (p *rollout) configure(cfg *Config) {
	p.cfg = *cfg
	p.search = newSearch(p.priced, portfolio(p.priced, p.rolloutOptions.rules), cfg, p.rolloutOptions)
	for _, r := range p.rules {
		if c, ok := r.(configured); ok {
			c.configure(cfg)
		}
	}
}

func (p *rollout) Select(s *State, out []Choice) []Choice {
	first := len(out)
	if p.held++; p.beside && p.held > holding {
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
	if !p.wanted || p.beside {
		return out
	}
	p.noted()
	if len(s.Jobs) == 0 {
		return out
	}
	e := p.search.roller.engine
	p.search.roller.pacedFrom(s)
	for i := range out[first:] {
		e.occupy(&out[first+i])
	}
	p.search.base.CopyFrom(&e.state)
	p.search.cur = p.cur
	found := p.search.Run()
	if found.Rule == p.cur {
		return out
	}
	p.cur = found.Rule
	return p.rules[p.cur].Select(&p.search.base, out)
}

// noted forgets why a search was due.
func (p *rollout) noted() { p.wanted, p.alarm, p.since = false, false, 0 }

// arrived reports whether a request was released at this instant.
func arrived(s *State) bool {
	if len(s.Jobs) == 0 {
		return false
	}
	j := &s.Jobs[len(s.Jobs)-1]
	return j.Layer == 0 && j.Ready == s.Now && j.Waiting()
}

// ended takes note of misses and drops.
func (p *rollout) ended(_ Job, o Outcome, _ time.Duration) { p.alarm = p.alarm || o != Met }

// takeOut is the policy's part of Engine.SearchBeside.
func (p *rollout) takeOut() *Search {
	p.beside = true
	own := *p.priced // the pace is copied with each state
	if p.cfg.Adapt {
		own.t = p.t.Clone()
	}
	p.search = newSearch(&own, portfolio(&own, p.rolloutOptions.rules), &p.cfg, p.rolloutOptions)
	p.search.mirror = p.cfg.Adapt
	return p.search
}

// prepare is its part of Engine.Prepare.
func (p *rollout) prepare(state *State, s *Search) bool {
	if !p.wanted {
		return false
	}
	p.noted()
	if len(state.Jobs) == 0 {
		return false
	}
	if p.gain < p.cfg.SearchShare*p.age*p.density {
		if p.skipped++; p.skipped < probing {
			return false
		}
	}
	p.skipped = 0
	if s.mirror {
		s.t.follow(p.t)
	}
	s.pace = p.pace
	s.roller.pacedFrom(state)
	s.base.CopyFrom(&s.roller.engine.state)
	s.cur, s.delay = p.cur, time.Duration(p.age)
	return true
}

// apply takes in what a search found that began age ago.
func (p *rollout) apply(f Found, age time.Duration) {
	if f.Rule < 0 || f.Rule >= len(p.rules) {
		broken("search found rule %d of %d", f.Rule, len(p.rules))
	}
	p.cur, p.applied, p.held = f.Rule, true, 0
	p.gain += smoothing * (f.Gain - p.gain)
	p.age += smoothing * (float64(age) - p.age)
}

// parse changes options by "name=value:name=value".
func (o *rolloutOptions) parse(text string) error {
	for _, f := range strings.Split(text, ":") {
		name, value, _ := strings.Cut(f, "=")
		if name == "rules" {
			if err := checkRules(value); err != nil {
				return err
			}
			o.rules = value
			continue
		}
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || !(x >= 0 && x <= 1e9) {
			return fmt.Errorf("option %q of rollout: want name=number, the number from 0 to 1e9", f)
		}
		switch name {
		case "every":
			o.every = int(x)
		case "events":
			o.events = int(x)
		case "touches":
			o.touches = int(x)
		case "good":
			o.good = x
		case "margin":
			o.margin = x
		case "horizon":
			o.horizon = x
		case "tight":
			o.tight = x
		case "fade":
			o.fade = x
		case "variant":
			o.variant = x
		default:
			return fmt.Errorf("rollout has no option %q, have rules, every, events, touches, good, margin, horizon, tight, fade, variant", name)
		}
	}
	return nil
}
