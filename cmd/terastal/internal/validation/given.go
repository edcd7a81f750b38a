package validation

import (
	"math/rand/v2"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// paceWindow is over what time the speed of an accelerator is averaged: a few
// dozen layers of a millisecond, and no longer than stalls of a shared machine.
const paceWindow = 20 * time.Millisecond

// pace is how fast a machine was during a run, against what is predicted.
type pace struct {
	predictor *Predictor
	// factor is the median of measured over predicted times, by cell.
	factor map[place]float64
	// speed is by accelerator and window: work done, with the factors, over time busy.
	speed [][]float64
	// spread is, by cell, what runs took over what they would have at this pace: the noise that speed averages over.
	spread map[place][]float64
}

// paceOf measures it from the runs of a log.
func paceOf(p *Predictor, runs []layerRun, accs int) *pace {
	c := &pace{predictor: p, factor: map[place]float64{}, speed: make([][]float64, accs), spread: map[place][]float64{}}
	ratios := map[place][]float64{}
	for i := range runs {
		if e := p.of(&runs[i]).total(); e > 0 {
			ratios[runs[i].place] = append(ratios[runs[i].place], float64(runs[i].occupied())/float64(e))
		}
	}
	for at, xs := range ratios {
		c.factor[at] = max(1e-3, median(xs))
	}
	if len(runs) == 0 {
		return c
	}
	c.measureSpeed(runs, int(runs[len(runs)-1].ended/paceWindow)+1)
	for i := range runs {
		r := &runs[i]
		if took := c.takes(r.begin, int(r.accelerator), c.factor[r.place]*float64(p.of(r).total())); took > 0 {
			c.spread[r.place] = append(c.spread[r.place], float64(r.occupied())/float64(took))
		}
	}
	return c
}

// measureSpeed fills in the speed of every accelerator in so many windows.
func (c *pace) measureSpeed(runs []layerRun, n int) {
	work, busy := make([][]float64, len(c.speed)), make([][]float64, len(c.speed))
	for k := range work {
		work[k], busy[k], c.speed[k] = make([]float64, n), make([]float64, n), make([]float64, n)
	}
	for i := range runs {
		r := &runs[i]
		if r.occupied() <= 0 {
			continue
		}
		rate := c.factor[r.place] * float64(c.predictor.of(r).total()) / float64(r.occupied())
		eachWindow(r.begin, r.ended, func(w int, t time.Duration) {
			work[r.accelerator][w] += rate * float64(t)
			busy[r.accelerator][w] += float64(t)
		})
	}
	for k := range work {
		for w := range work[k] {
			c.speed[k][w] = 1
			if busy[k][w] > 0 {
				c.speed[k][w] = max(1e-3, work[k][w]/busy[k][w])
			}
		}
	}
}

// eachWindow calls f with the part of a time in each window.
func eachWindow(from, to time.Duration, f func(window int, part time.Duration)) {
	for from < to {
		w := from / paceWindow
		end := min(to, (w+1)*paceWindow)
		f(int(w), end-from)
		from = end
	}
}

// durations draws how long layers take at the machine's pace.
func (c *pace) durations(seed uint64) (sim.Durations, error) {
	rng := rand.New(rand.NewPCG(seed, 0x70616365))
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		work := float64(c.predictor.fixed(at, d))
		cell := place{int32(d.Model), int32(d.Layer), int32(d.Implementation), int32(d.Accelerator)}
		if f, ok := c.factor[cell]; ok {
			work *= f
		}
		u := rng.Float64()
		if s := c.spread[cell]; len(s) > 0 {
			work *= s[int(u*float64(len(s)))]
		}
		return c.takes(at, d.Accelerator, work)
	}, nil
}

// takes is how long so much work, in nanoseconds at speed 1, takes from an instant on.
func (c *pace) takes(at time.Duration, accelerator int, work float64) time.Duration {
	speed := c.speed[accelerator]
	begin := at
	for work > 0 {
		w := int(at / paceWindow)
		if w >= len(speed) {
			return at - begin + time.Duration(work)
		}
		room := time.Duration(w+1)*paceWindow - at
		if done := float64(room) * speed[w]; done < work {
			work, at = work-done, at+room
			continue
		}
		return at - begin + time.Duration(work/speed[w])
	}
	return at - begin
}

// atPace is the predictor that knows the pace.
func (p *Predictor) atPace(runs []layerRun) *Predictor {
	paced := *p
	paced.draws, paced.paced = paceOf(p, runs, len(p.dispatch)).durations, true
	return &paced
}
