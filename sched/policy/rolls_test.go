package policy

import (
	"reflect"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/sim"
)

// promising is Workload with accuracy floors that leave variants some room. Losses are measured or, for every other
// model, bounded. Prices are those of originals, which are found sooner.
func promising(t testkit.T, accs, implementations int, floor float64) sched.System {
	sys := schedtest.Workload(accs, implementations)
	sys.Pricing = testkit.Must(fluid.PricesOf(schedtest.Compile(t, sys)))(t)
	for m := range sys.Models {
		model := &sys.Models[m]
		model.Floor = floor
		if m%2 == 1 {
			model.Valid, model.MaxLoss = nil, 1
			for v := range model.Variants {
				model.Loss = append(model.Loss, 0.004*float64(v+1))
			}
			continue
		}
		for _, set := range model.Valid {
			model.Accuracy = append(model.Accuracy, 1-0.004*float64(set))
		}
	}
	return sys
}

// checked is a rule that is looked at after every decision.
type checked struct {
	sched.Policy
	after func()
}

func (c checked) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	defer c.after()
	return c.Policy.Select(s, out)
}

// looked is a rollout whose searches are looked at. They take some time, on another goroutine.
type looked struct {
	*rollout
	look func(search *search, run func() int) int
}

func (l looked) Detach(share float64) func() int {
	run := l.rollout.Detach(share)
	return func() int { return l.look(l.rollout.search, run) }
}

// balances are copies of ledgers.
func balances(ledgers []ledger) []ledger {
	out := slices.Clone(ledgers)
	for i := range out {
		out[i].recent = slices.Clone(out[i].recent)
	}
	return out
}

// TestRollsSpendNothing: what is rolled ahead changes no ledger of the policy, and no rolled schedule owes more than the
// promise allows.
func TestRollsSpendNothing(t *testing.T) {
	sys := promising(t, 3, 3, 0.99)
	runs, rolled, owes := 0, 0, 0
	of := func(c sched.Config) (sched.Policy, error) {
		p, err := newRollout(c, defaultRollout())
		return looked{p, func(s *search, run func() int) int {
			before := balances(p.accounts.ledgers)
			if runs++; runs == 1 {
				for i, rule := range s.rules {
					s.rules[i] = checked{rule, func() {
						rolled++
						for m := range s.ledgers {
							if l := &s.ledgers[m]; l.owed > l.limit || l.owed < 0 {
								t.Fatalf("rule %d owes %d of %d", i, l.owed, l.limit)
							} else if l.owed > before[m].owed {
								owes++
							}
						}
					}}
				}
			}
			found := run()
			if !reflect.DeepEqual(before, balances(p.accounts.ledgers)) {
				t.Fatalf("a search changed what is owed from\n%+v to\n%+v", before, p.accounts.ledgers)
			}
			return found
		}}, err
	}
	testkit.Must(sim.Run(sim.Config{Arrivals: busyArrivals(t, &sys), SearchTime: 1000,
		Engine: sched.Config{Tables: schedtest.Compile(t, sys), Policy: of, Drop: sched.DropLate}}))(t)
	t.Logf("%d searches, %d rolled decisions, %d balances above those of before", runs, rolled, owes)
	if runs < 100 || owes < 100 {
		t.Errorf("%d searches, %d rolled decisions, %d balances above those of before", runs, rolled, owes)
	}
}

// TestSearchAlongside: a search on another goroutine shares nothing that changes with the engine, whose tables adapt;
// what it finds is what it would have found at once. The race detector says the rest.
func TestSearchAlongside(t *testing.T) {
	sys := promising(t, 4, 3, 0.99)
	drive := func(alongside bool) (found []int) {
		m := newTreadmill(t, sys, "rollout", sched.DropLate, 32)
		m.engine = newEngine(t, sched.Config{Tables: schedtest.Compile(t, sys), Policy: Rollout, Drop: sched.DropLate, Adapt: true})
		p := m.engine.Policy().(sched.Searcher)
		search := p.Detach(0)
		for range 150 {
			m.step()
			began := m.now
			if !p.Prepare(m.engine.State()) {
				continue
			}
			result := make(chan int, 1)
			if alongside {
				go func() { result <- search() }()
			} else {
				result <- search()
			}
			for range 3 {
				m.step()
			}
			at := <-result
			found = append(found, at)
			for _, d := range m.engine.Step(sched.Event{Kind: sched.Searched, At: m.now, Start: began, Found: at}) {
				m.ends[d.Accelerator] = d.Finish
			}
		}
		return found
	}
	got, want := drive(true), drive(false)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("found\n%v, alone\n%v", got, want)
	}
}
