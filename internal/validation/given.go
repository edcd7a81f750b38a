package validation

import (
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
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
	// speed is by accelerator and window: work done, with the factors, over time
	// busy.
	speed [][]float64
}

// paceOf measures it from the runs of a log.
func paceOf(p *Predictor, runs []layerRun, accs int) *pace {
	c := &pace{predictor: p, factor: map[place]float64{}, speed: make([][]float64, accs)}
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
	n := int(runs[len(runs)-1].ended/paceWindow) + 1
	work, busy := make([][]float64, accs), make([][]float64, accs)
	for k := range work {
		work[k], busy[k], c.speed[k] = make([]float64, n), make([]float64, n), make([]float64, n)
	}
	for i := range runs {
		r := &runs[i]
		if r.occupied() <= 0 {
			continue
		}
		rate := c.factor[r.place] * float64(p.of(r).total()) / float64(r.occupied())
		eachWindow(r.dispatched, r.ended, func(w int, t time.Duration) {
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
	return c
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

// duration is how long a layer takes from an instant on at the machine's pace.
func (c *pace) duration(at time.Duration, d sched.Dispatch) time.Duration {
	left := float64(c.predictor.fixed(at, d))
	if f, ok := c.factor[place{int32(d.Model), int32(d.Layer), int32(d.Implementation), int32(d.Accelerator)}]; ok {
		left *= f
	}
	speed := c.speed[d.Accelerator]
	begin := at
	for left > 0 {
		w := int(at / paceWindow)
		if w >= len(speed) {
			return at - begin + time.Duration(left)
		}
		room := time.Duration(w+1)*paceWindow - at
		if done := float64(room) * speed[w]; done < left {
			left, at = left-done, at+room
			continue
		}
		return at - begin + time.Duration(left/speed[w])
	}
	return at - begin
}

// given predicts jobs with the pace that the machine had.
func (p *Predictor) given(log *eventlog.Log, runs []layerRun) (*eventlog.Log, error) {
	c := paceOf(p, runs, len(log.Header.System.Accelerators))
	arrivals, jobs := replayed(log)
	var once Predictor = *p
	once.draws = func(uint64) (sim.Durations, error) { return c.duration, nil }
	return once.draw(log, arrivals, jobs, 1)
}
