package sched

import (
	"math"
	"time"
)

// Search looks for the rule that should dispatch from a state on, by rolling
// every one ahead. It has memory of its own, so that a driver can Run it beside
// the engine, on another goroutine, while the engine goes on:
//
//	search := engine.SearchBeside() // nil where the policy does not search
//	for ev := range events {
//		start(engine.Step(ev))
//		if search != nil && !running && engine.Prepare(search) {
//			running, began = true, ev.At
//			go func() { results <- search.Run() }()
//		}
//	}
//	// and when found comes out of results, as one of the events:
//	running = false
//	engine.Step(Event{Kind: Searched, At: now, Start: began, Found: found})
//
// Dispatching never waits for it. Between Prepare and the end of Run the driver
// must leave it alone; Prepare is called under whatever keeps Step from running
// twice at once. Without SearchBeside the policy searches inside Step.
type Search struct {
	*priced
	searchOptions
	rules  []Policy
	roller *roller
	// mirror holds tables of its own where the engine adapts those that it
	// dispatches by.
	mirror bool
	cur    int   // the rule that dispatches meanwhile
	next   int   // where the next search begins
	base   State // where it starts
	mid    State // where the rule that it finds takes over
	delay  time.Duration
}

// searchOptions bound a search.
type searchOptions struct {
	events  int     // rolled, at most
	touches int     // active requests, summed over these, at most
	good    float64 // a cost that needs no better
	margin  float64 // by which a rule has to be better than that which dispatches
}

// fallback is the rule that dispatches while queues are so long that a search
// is over before one rule was rolled to the horizon: priced EDF. The rule that
// was best while queues were short would otherwise stay.
const fallback = 0

// Found is what a search came to.
type Found struct {
	Rule   int     // that should dispatch from now on
	Gain   float64 // of that against going on as before, in misses weighted by model
	Events int     // rolled
}

func newSearch(p *priced, rules []Policy, cfg *Config, o rolloutOptions) *Search {
	s := &Search{priced: p, searchOptions: o.searchOptions, rules: rules, roller: newRoller(p, cfg, o.rollOptions)}
	for _, r := range rules {
		if c, ok := r.(configured); ok {
			c.configure(cfg)
		}
	}
	return s
}

// Run rolls the rules from the prepared state. What it finds depends on that and
// on the searches before it only.
func (s *Search) Run() Found {
	b := bounds{s.events, s.touches}
	r := s.roller
	r.giveUp(&s.base)
	r.start(&s.base, s.rules[s.cur])
	from := &s.base
	if s.delay > 0 {
		r.roll(s.base.Now+s.delay, math.Inf(1), &b)
		s.mid.CopyFrom(&r.engine.state)
		from, r.cost = &s.mid, 0
		r.giveUp(from)
	}
	best := r.finish(max(s.base.Now+r.ahead, from.Now), math.Inf(1), &b)
	until := r.engine.state.Now
	found := Found{Rule: s.cur}
	first := best
	if b.spent() {
		found.Rule = fallback
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
				if best, found.Rule = cost, i; best <= s.good {
					break
				}
			}
		}
	}
	found.Gain = first - best
	found.Events = s.events - max(0, b.events)
	return found
}
