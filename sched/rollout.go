package sched

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rollout dispatches by one of many rules, and looks for the best one by short
// simulations from the current state.
type rollout struct {
	*priced
	rolloutOptions
	rules  []Policy
	cur    int
	next   int // where the next search begins
	roller *roller
	base   State // after cur's dispatch
	since  int   // events since the last search
	alarm  bool  // a miss or drop since
	timed  func(func())
}

// rolloutOptions are the search's.
type rolloutOptions struct {
	rollOptions
	every   int     // events from one search to the next, at most
	events  int     // rolled per search, at most
	touches int     // active requests looked at per search, at most
	good    float64 // a cost that needs no better
	margin  float64 // by which a rule has to be better
	horizon float64 // in mean periods
	rules   string
}

func newRolloutWith(o rolloutOptions) func(t *Tables) Policy {
	return func(t *Tables) Policy {
		p := newPriced(t)
		r := &rollout{priced: p, rolloutOptions: o, rules: portfolio(p, o.rules)}
		mean := 0.0
		for i := range p.models {
			mean += p.models[i].period / float64(len(p.models))
		}
		r.rollOptions.horizon = time.Duration(o.horizon * mean)
		r.configure(&Config{Tables: t})
		return r
	}
}

func defaultRollout() rolloutOptions {
	return rolloutOptions{rollOptions: rollOptions{tight: 0.1, fade: 0.05, variant: 0.002},
		every: 3, events: 2000, touches: 20000, good: 0.02, margin: 0.01, horizon: 1, rules: "all"}
}

// parse changes options by "name=value:name=value".
func (o *rolloutOptions) parse(text string) error {
	for _, f := range strings.Split(text, ":") {
		name, value, _ := strings.Cut(f, "=")
		x, err := strconv.ParseFloat(value, 64)
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
		case "rules":
			o.rules, err = value, nil
		default:
			return fmt.Errorf("no option %q", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// portfolio makes the rules.
func portfolio(p *priced, which string) []Policy {
	q := func(o order, gain float64, admission, dynamic bool, caution float64) Policy {
		return newPricedRule(p, ruleOptions{o, gain, admission, dynamic, caution})
	}
	all := []Policy{
		q(0, 2, true, true, 0), q(0, 1, true, false, .6), q(4, 2, true, true, 0), q(1, 1, true, true, 0),
		q(2, 2, false, true, 0), q(0, 0, false, false, 0), q(0, 8, true, false, 0), q(3, 2, false, false, 0),
		q(2, 0, false, false, 0), q(4, 4, false, false, .6), q(5, 1, false, false, 0), q(3, 0, false, false, 0),
		newTerastal(p.t), newTerastalWith(terastalOptions{laxity: 1})(p.t), newTerastalWith(terastalOptions{laxity: 0.5})(p.t), newTerastalWith(terastalOptions{laxity: -0.5})(p.t),
		newFCFS(p.t), newEDF(p.t), newStaticDREAM(p.t),
	}
	if which == "all" {
		return all
	}
	var out []Policy
	for _, f := range strings.Split(which, "+") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 0 || n >= len(all) {
			broken("rule %q", f)
		}
		out = append(out, all[n])
	}
	return out
}

// configure makes the copy of the engine that rolls.
func (p *rollout) configure(cfg *Config) {
	p.roller = newRoller(p.priced, cfg, p.rollOptions)
	for _, r := range p.rules {
		if c, ok := r.(configured); ok {
			c.configure(cfg)
		}
	}
}

func (p *rollout) Select(s *State, out []Choice) []Choice {
	first := len(out)
	out = p.rules[p.cur].Select(s, out)
	p.since++
	if p.since < p.every && !p.alarm && !arrived(s) {
		return out
	}
	p.since, p.alarm = 0, false
	if len(s.Jobs) == 0 {
		return out
	}
	p.roller.engine.adopt(s)
	for i := range out[first:] {
		p.roller.engine.occupy(&out[first+i])
	}
	p.base.CopyFrom(&p.roller.engine.state)
	was := p.cur
	if p.timed != nil {
		p.timed(func() { p.search() })
	} else {
		p.search()
	}
	if p.cur != was {
		out = p.rules[p.cur].Select(&p.base, out)
	}
	return out
}

// arrived reports whether a request was released at this instant.
func arrived(s *State) bool {
	if len(s.Jobs) == 0 {
		return false
	}
	j := &s.Jobs[len(s.Jobs)-1]
	return j.Layer == 0 && j.Ready == s.Now && j.Waiting()
}

// search rolls rules from the base state and returns the best.
func (p *rollout) search() int {
	b := bounds{p.events, p.touches}
	until := p.base.Now + p.rollOptions.horizon
	p.roller.start(&p.base, p.rules[p.cur])
	best, until, _ := p.roller.roll(until, math.Inf(1), &b)
	if best <= p.good {
		return p.cur
	}
	from := p.next
	p.next = (p.next + 1) % len(p.rules)
	was := p.cur
	for n := range p.rules {
		i := (from + n) % len(p.rules)
		if i == was {
			continue
		}
		p.roller.start(&p.base, p.rules[i])
		cost, _, ok := p.roller.roll(until, best-p.margin, &b)
		if b.events < 0 || b.touches < 0 {
			break
		}
		if ok {
			if best, p.cur = cost, i; best <= p.good {
				break
			}
		}
	}
	return p.cur
}

// ended takes note of misses and drops.
func (p *rollout) ended(_ Job, o Outcome, _ time.Duration) { p.alarm = p.alarm || o != Met }

var _ = slices.Contains[[]int]
