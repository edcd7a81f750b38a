package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/terastal/terastal/sched"
)

// Durations says how long a layer takes that is dispatched at an instant. It is
// called once per dispatch, in the order of the simulation.
type Durations func(at time.Duration, d sched.Dispatch) time.Duration

// Exactly takes as long as the tables say, whatever an engine that adapts its own predicts.
func Exactly(truth *sched.Tables) Durations {
	return func(_ time.Duration, d sched.Dispatch) time.Duration { return truth.Cost(d) }
}

// Lognormal multiplies every layer's latency in the tables, handoff included, by a factor drawn from the lognormal
// distribution of mean 1 with this sigma. The tables are those of the truth: where the engine adapts its own, it
// follows the durations and not the other way round.
func Lognormal(sigma float64, truth *sched.Tables, seed uint64) Durations {
	rng := rand.New(rand.NewPCG(seed, 0x6c6f676e))
	return func(_ time.Duration, d sched.Dispatch) time.Duration {
		took := float64(truth.Cost(d)) * math.Exp(sigma*rng.NormFloat64()-sigma*sigma/2)
		return time.Duration(min(took, float64(longest)))
	}
}

// Drifting makes another Durations' layers longer on accelerators that become slower and faster again, each by itself:
// by a factor that swings between 1 and 1 + depth with the given period, from a phase that the seed draws for each of
// accs accelerators. Errors of predictions are then alike for all that runs on one at a time.
func Drifting(of Durations, depth float64, period time.Duration, accs int, seed uint64) Durations {
	rng := rand.New(rand.NewPCG(seed, 0x64726966))
	phase := make([]float64, accs)
	for k := range phase {
		phase[k] = rng.Float64()
	}
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		turn := phase[d.Accelerator] + float64(at)/float64(period)
		took := float64(of(at, d)) * (1 + depth*(1+math.Sin(2*math.Pi*turn))/2)
		return time.Duration(min(took, float64(longest)))
	}
}

// Delayed adds a time to every layer's, as dispatching does where nothing predicts it.
func Delayed(of Durations, by time.Duration) Durations {
	return func(at time.Duration, d sched.Dispatch) time.Duration { return of(at, d) + by }
}

// Point is a quantile of a measured distribution: a share of Share of all runs took at most Time.
type Point struct {
	Share float64
	Time  time.Duration
}

// Measured draws durations from measured distributions, by the inverse of the distribution function that is linear
// between the given points. points returns those of a layer run, in rising order, the first with share 0 and the last
// with share 1; where it returns none the prediction is taken.
func Measured(points func(sched.Dispatch) []Point, seed uint64) Durations {
	rng := rand.New(rand.NewPCG(seed, 0x6d656173))
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		u := rng.Float64()
		ps := points(d)
		if len(ps) == 0 {
			return d.Finish - max(at, d.Start)
		}
		for i := 1; i < len(ps); i++ {
			if u <= ps[i].Share {
				a, b := ps[i-1], ps[i]
				return a.Time + time.Duration(float64(b.Time-a.Time)*(u-a.Share)/(b.Share-a.Share))
			}
		}
		return ps[len(ps)-1].Time
	}
}

// CheckPoints returns an error unless the points are a distribution that Measured can draw from.
func CheckPoints(ps []Point) error {
	if len(ps) < 2 || ps[0].Share != 0 || ps[len(ps)-1].Share != 1 {
		return fmt.Errorf("points must begin with share 0 and end with share 1")
	}
	if ps[0].Time < 0 {
		return fmt.Errorf("point 0 has the negative time %v", ps[0].Time)
	}
	for i := 1; i < len(ps); i++ {
		if !(ps[i].Share > ps[i-1].Share) || ps[i].Time < ps[i-1].Time {
			return fmt.Errorf("point %d (share %v, %v) does not come after share %v, %v", i, ps[i].Share, ps[i].Time,
				ps[i-1].Share, ps[i-1].Time)
		}
	}
	return nil
}
