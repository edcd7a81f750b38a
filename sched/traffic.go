package sched

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// ErrInvalidTraffic is wrapped by every error about traffic that makes no
// sense.
var ErrInvalidTraffic = errors.New("invalid traffic")

// ArrivalProcess says how the releases of a stream are spaced.
type ArrivalProcess uint8

const (
	// Periodic releases one job per period.
	Periodic ArrivalProcess = iota
	// Poisson releases jobs at independent, exponentially distributed
	// intervals.
	Poisson
)

var arrivalNames = [...]string{"periodic", "poisson"}

func (a ArrivalProcess) String() string { return arrivalNames[a] }

// ParseArrivals reads "periodic" or "poisson".
func ParseArrivals(s string) (ArrivalProcess, error) {
	for i, n := range arrivalNames {
		if s == n {
			return ArrivalProcess(i), nil
		}
	}
	return 0, fmt.Errorf("unknown arrival process %q, have %s", s, strings.Join(arrivalNames[:], ", "))
}

// PhasePolicy says when the first job of a periodic stream is released.
type PhasePolicy uint8

const (
	// RandomPhases draws each stream's first release uniformly from its period.
	RandomPhases PhasePolicy = iota
	// AlignedPhases releases the first job of every stream at time zero.
	AlignedPhases
)

var phaseNames = [...]string{"random", "aligned"}

func (p PhasePolicy) String() string { return phaseNames[p] }

// ParsePhases reads "random" or "aligned".
func ParsePhases(s string) (PhasePolicy, error) {
	for i, n := range phaseNames {
		if s == n {
			return PhasePolicy(i), nil
		}
	}
	return 0, fmt.Errorf("unknown phases %q, have %s", s, strings.Join(phaseNames[:], ", "))
}

// Traffic describes the releases of a run. The same traffic and seed give the
// same arrivals everywhere.
type Traffic struct {
	// Rates holds the mean releases per second of each model.
	Rates    []float64
	Process  ArrivalProcess
	Phases   PhasePolicy
	Jitter   float64 // of periodic streams: each release is late by up to this share of its period
	Duration time.Duration
	Seed     uint64
}

// Arrival is one release to come. The job's ID is its index in the list.
type Arrival struct {
	At    time.Duration
	Model int
}

// MaxArrivals bounds a generated list, about 400 MB.
const MaxArrivals = 1 << 24

// Arrivals generates the releases from time zero up to, not including,
// Duration, in order of time; simultaneous ones in order of model. Every model
// draws from a generator of its own, so that changing one model leaves the
// others' arrivals as they were.
func (t *Traffic) Arrivals() ([]Arrival, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidTraffic, err)
	}
	var out []Arrival
	for m, rate := range t.Rates {
		rng := rand.New(rand.NewPCG(t.Seed, uint64(m)))
		period := float64(time.Second) / rate
		switch t.Process {
		case Periodic:
			phase := rng.Float64() * period
			if t.Phases == AlignedPhases {
				phase = 0
			}
			for n := 0; ; n++ {
				base := phase + float64(n)*period
				if base >= float64(t.Duration) {
					break
				}
				// The draw is made without jitter too, so that jitter does not
				// change what follows it.
				at := time.Duration(base + rng.Float64()*t.Jitter*period)
				if at < t.Duration {
					out = append(out, Arrival{at, m})
				}
			}
		case Poisson:
			for at := rng.ExpFloat64() * period; at < float64(t.Duration); at += rng.ExpFloat64() * period {
				out = append(out, Arrival{time.Duration(at), m})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Arrival) int {
		if a.At != b.At {
			return int(max(-1, min(1, a.At-b.At)))
		}
		return a.Model - b.Model
	})
	return out, nil
}

func (t *Traffic) validate() error {
	if t.Duration <= 0 {
		return fmt.Errorf("duration %v, must be positive", t.Duration)
	}
	if t.Jitter < 0 || t.Jitter > 1 || math.IsNaN(t.Jitter) {
		return fmt.Errorf("jitter %v, must be 0 to 1 (a share of the period)", t.Jitter)
	}
	if len(t.Rates) == 0 {
		return fmt.Errorf("no rates")
	}
	total := 0.0
	for m, r := range t.Rates {
		if !(r > 0) || math.IsInf(r, 0) {
			return fmt.Errorf("rate %v of model %d, must be a positive number of releases per second", r, m)
		}
		total += r
	}
	if n := total * t.Duration.Seconds(); n > MaxArrivals {
		return fmt.Errorf("about %.3g arrivals, at most %d are generated: lower the rates or the duration", n, MaxArrivals)
	}
	return nil
}
