package policy

import (
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// DREAM is the baseline of that name (ASPLOS 2023) as its formulas are publicly recalled; neither its text nor its code
// was at hand, and only the urgency and starvation terms are corroborated by public derivatives:
//
//	Urgency       = ToGo / Slack
//	ToGo          = latency of all layers left, averaged over accelerators
//	Slack         = deadline - now
//	LatPref(k)    = sum over k' of latency(k') / latency(k), of the next layer
//	Starvation    = (now - last progress) / mean latency of the next layer
//	Energy(k)     = sum over k' of energy(k') / energy(k)
//	MapScore      = Urgency * LatPref + alpha * Starvation + beta * Energy
//
// The pair of waiting layer and idle accelerator with the highest score is dispatched, again and again. alpha and beta,
// from 0 to 2, are tuned online by a shrinking coordinate search on UXCost, the product of the models' summed
// deadline-violation rates and summed normalised energies.
//
// Its smart frame drop, which other policies can have as DropSmart, comes with it whatever the drop policy.
func DREAM(c sched.Config) (sched.Policy, error) {
	return &dream{t: c.Tables, tuner: newTuner(c.Tables)}, nil
}

type dream struct {
	t     *sched.Tables
	tuner tuner
	taken []bool
	used  []bool // by job: dispatched in this decision
}

func (p *dream) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	p.taken, p.used = cleared(p.taken, len(s.Accelerators)), cleared(p.used, len(s.Jobs))
	for {
		best, high := sched.Choice{Reason: sched.HighestScore}, -1.0
		for i := range s.Jobs {
			if !s.Jobs[i].Waiting() || p.used[i] {
				continue
			}
			for k := range s.Accelerators {
				if p.taken[k] || !s.Idle(k) {
					continue
				}
				if score := p.score(s, &s.Jobs[i], k); score > high {
					high, best.Job, best.Accelerator = score, int32(i), int32(k)
				}
			}
		}
		if high < 0 {
			return out
		}
		p.used[best.Job], p.taken[best.Accelerator] = true, true
		p.tuner.spend(&s.Jobs[best.Job], int(best.Accelerator))
		out = append(out, best)
	}
}

// mostUrgent bounds DREAM's urgency, which grows without bound towards the deadline and changes its sign there.
const mostUrgent = 1000

// score is MapScore, or below zero where the layer cannot run.
func (p *dream) score(s *sched.State, j *sched.Job, k int) float64 {
	m := p.t.Model(j.Model)
	latency := m.Latency(j.Layer, 0)
	if latency[k] >= sched.Never {
		return -1
	}
	toGo := m.MeanRemaining(j.Layer)
	// Near and past its deadline a request is most urgent.
	slack := max(float64(j.Deadline-s.Now), toGo/mostUrgent)
	var sum float64
	runs := 0
	for _, c := range latency {
		if c < sched.Never {
			sum += float64(c)
			runs++
		}
	}
	urgency := toGo / slack
	preference := sum / float64(latency[k])
	starvation := float64(max(0, s.Now-j.Ready)) / (sum / float64(runs))
	return urgency*preference + p.tuner.alpha*starvation + p.tuner.beta*p.energy(j, k)
}

func (p *dream) energy(j *sched.Job, k int) float64 {
	e := p.t.System().Models[j.Model].Energy
	if e == nil || e[j.Layer][k] <= 0 {
		return 0
	}
	m := p.t.Model(j.Model)
	latency := m.Latency(j.Layer, 0)
	sum := 0.0
	for o, x := range e[j.Layer] {
		if latency[o] < sched.Never {
			sum += x
		}
	}
	return sum / e[j.Layer][k]
}

func (p *dream) Completed(_, _ time.Duration) {}

func (p *dream) Ended(j sched.Job, o sched.Outcome, _ time.Duration) { p.tuner.ended(int(j.Model), o) }

// GiveUp is the smart frame drop.
func (p *dream) GiveUp(s *sched.State, from int) int {
	for i := from; i < len(s.Jobs); i++ {
		if s.Jobs[i].Waiting() && p.t.SmartDrop(s, i) {
			return i
		}
	}
	return -1
}

// tuner searches alpha and beta by coordinates: each candidate is used for a window of ended jobs, the best becomes the
// centre, and the step is halved when the centre was best.
type tuner struct {
	t           *sched.Tables
	alpha, beta float64
	centre      [2]float64
	step        float64
	candidate   int // 0 is the centre, then one step down and up in each coordinate
	cost        [5]float64
	jobs        int
	seen        []float64 // by model, in this window
	missed      []float64
	spent       []float64 // energy, and the least it could have been
	least       []float64
}

const (
	tunerWindow  = 50 // ended jobs per candidate
	tunerMin     = 0.05
	tunerHighest = 2
)

func newTuner(t *sched.Tables) tuner {
	n := len(t.System().Models)
	u := tuner{t: t, centre: [2]float64{1, 1}, step: 0.5,
		seen: make([]float64, n), missed: make([]float64, n), spent: make([]float64, n), least: make([]float64, n)}
	u.alpha, u.beta = u.centre[0], u.centre[1]
	return u
}

// spend counts the energy of a dispatch.
func (u *tuner) spend(j *sched.Job, k int) {
	e := u.t.System().Models[j.Model].Energy
	if e == nil {
		return
	}
	m := u.t.Model(j.Model)
	latency := m.Latency(j.Layer, 0)
	least := e[j.Layer][k]
	for o, x := range e[j.Layer] {
		if latency[o] < sched.Never {
			least = min(least, x)
		}
	}
	u.spent[j.Model] += e[j.Layer][k]
	u.least[j.Model] += least
}

func (u *tuner) ended(model int, o sched.Outcome) {
	u.seen[model]++
	if o != sched.Met {
		u.missed[model]++
	}
	if u.jobs++; u.jobs == tunerWindow {
		u.next()
	}
}

// next closes a candidate's window and opens the next candidate's.
func (u *tuner) next() {
	u.cost[u.candidate] = u.uxCost()
	u.jobs = 0
	clear(u.seen)
	clear(u.missed)
	clear(u.spent)
	clear(u.least)
	if u.candidate++; u.candidate == len(u.cost) {
		u.candidate = 0
		u.move()
	}
	at := u.centre
	if c := u.candidate - 1; c >= 0 {
		at = u.neighbour(c)
	}
	u.alpha, u.beta = at[0], at[1]
}

func (u *tuner) neighbour(c int) [2]float64 {
	at := u.centre
	step := u.step
	if c%2 == 0 {
		step = -step
	}
	at[c/2] = min(tunerHighest, max(0, at[c/2]+step))
	return at
}

// move takes the best candidate as the new centre.
func (u *tuner) move() {
	best := 0
	for c, x := range u.cost {
		if x < u.cost[best] {
			best = c
		}
	}
	if best == 0 {
		u.step = max(tunerMin, u.step/2)
		return
	}
	u.centre = u.neighbour(best - 1)
}

// uxCost is the product of summed violation rates and summed normalised energies in this window.
func (u *tuner) uxCost() float64 {
	violations, energy := 0.0, 0.0
	for m := range u.seen {
		if u.seen[m] > 0 {
			violations += u.missed[m] / u.seen[m]
		}
		if u.least[m] > 0 {
			energy += u.spent[m] / u.least[m]
		} else {
			energy++
		}
	}
	return violations * energy
}

// cleared returns n times false, in the slice's memory where that is enough.
func cleared(xs []bool, n int) []bool {
	xs = slices.Grow(xs[:0], n)[:n]
	clear(xs)
	return xs
}
