// Package traffic makes the releases of a run: periodic streams, Poisson arrivals, bursts, or what was recorded. The
// same [Config] gives the same arrivals everywhere, to the byte; package sim plays them in virtual time, package
// runtime in real time.
package traffic

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// ErrInvalid is wrapped by every error about traffic that makes no sense.
var ErrInvalid = errors.New("invalid traffic")

// Process says how the releases of a model are spaced.
type Process uint8

const (
	// Periodic releases one job per period.
	Periodic Process = iota
	// Poisson releases jobs at independent, exponentially distributed intervals.
	Poisson
	// Bursts alternates between on and off phases of exponentially distributed lengths; while on, jobs come as by Poisson,
	// as much faster as it takes for the mean rate.
	Bursts
	// ClosedLoop has one request of each model in the system: the next is released when it ends. Rates say nothing about
	// it. The engine makes the releases after the first; see sched.Config.Until.
	ClosedLoop
	// Recorded plays Config.Recorded.
	Recorded
)

var arrivalNames = [...]string{"periodic", "poisson", "bursts", "closed", "trace"}

func (a Process) String() string { return arrivalNames[a] }

// ParseProcess reads "periodic", "poisson", "bursts", "closed" or "trace".
func ParseProcess(s string) (Process, error) {
	return parse[Process]("arrival process", arrivalNames[:], s)
}

func parse[T ~uint8](what string, names []string, s string) (T, error) {
	i := slices.Index(names, s)
	if i < 0 {
		return 0, fmt.Errorf("unknown %s %q, have %s", what, s, strings.Join(names, ", "))
	}
	return T(i), nil
}

// Phases says when the first job of a periodic stream is released.
type Phases uint8

const (
	// RandomPhases draws each stream's first release uniformly from its period.
	RandomPhases Phases = iota
	// AlignedPhases releases the first job of every stream at time zero.
	AlignedPhases
)

var phaseNames = [...]string{"random", "aligned"}

func (p Phases) String() string { return phaseNames[p] }

// ParsePhases reads "random" or "aligned".
func ParsePhases(s string) (Phases, error) { return parse[Phases]("phases", phaseNames[:], s) }

// Config describes the releases of a run. The same traffic and seed give the same arrivals everywhere.
type Config struct {
	// Rates holds the mean releases per second of each model. A model with rate zero has no releases.
	Rates   []float64
	Process Process
	Phases  Phases
	// FirstRelease, if not nil, gives each periodic stream's phase and beats Phases.
	FirstRelease []time.Duration
	Jitter       float64 // of periodic streams: each release is late by up to this share of its period
	// BurstOn and BurstOff are the mean lengths of the phases of Bursts.
	BurstOn, BurstOff time.Duration
	// Recorded are the arrivals of the process of that name, in order of time.
	Recorded []Arrival
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

// Arrivals generates the releases from time zero up to, not including, Duration, in order of time; simultaneous ones in
// order of model. Every model has its own generator, so that changing one model leaves the others' arrivals as they
// were.
func (t *Config) Arrivals() ([]Arrival, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if t.Process == Recorded {
		n := 0
		for n < len(t.Recorded) && t.Recorded[n].At < t.Duration {
			n++
		}
		return slices.Clone(t.Recorded[:n]), nil
	}
	var out []Arrival
	for m, rate := range t.Rates {
		if rate == 0 {
			continue
		}
		rng := rand.New(rand.NewPCG(t.Seed, uint64(m)))
		switch t.Process {
		case Periodic:
			out = t.periodic(out, m, rng)
		case Poisson:
			out = poisson(out, m, rng, float64(time.Second)/rate, 0, float64(t.Duration))
		case Bursts:
			out = t.bursts(out, m, rng)
		case ClosedLoop:
			out = append(out, Arrival{0, m})
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

func (t *Config) periodic(out []Arrival, m int, rng *rand.Rand) []Arrival {
	period := float64(time.Second) / t.Rates[m]
	phase := rng.Float64() * period
	switch {
	case t.FirstRelease != nil:
		phase = float64(t.FirstRelease[m])
	case t.Phases == AlignedPhases:
		phase = 0
	}
	for n := 0; ; n++ {
		base := phase + float64(n)*period
		if base >= float64(t.Duration) {
			return out
		}
		// The draw is made without jitter too, so that jitter does not change what follows it.
		if at := base + rng.Float64()*t.Jitter*period; at < float64(t.Duration) {
			out = append(out, Arrival{time.Duration(at), m})
		}
	}
}

// poisson appends arrivals at exponentially distributed intervals of the given
// mean between two instants, all in nanoseconds.
func poisson(out []Arrival, m int, rng *rand.Rand, mean, from, to float64) []Arrival {
	for at := from + rng.ExpFloat64()*mean; at < to; at += rng.ExpFloat64() * mean {
		out = append(out, Arrival{time.Duration(at), m})
	}
	return out
}

func (t *Config) bursts(out []Arrival, m int, rng *rand.Rand) []Arrival {
	on, off := float64(t.BurstOn), float64(t.BurstOff)
	mean := float64(time.Second) / t.Rates[m] * on / (on + off)
	// It starts within either phase, as likely as that phase is.
	isOn := rng.Float64() < on/(on+off)
	for at := 0.0; at < float64(t.Duration); isOn = !isOn {
		length := rng.ExpFloat64() * off
		if isOn {
			length = rng.ExpFloat64() * on
			out = poisson(out, m, rng, mean, at, min(at+length, float64(t.Duration)))
		}
		at += max(1, length)
	}
	return out
}

func (t *Config) validate() error {
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
		if !(r >= 0) || math.IsInf(r, 0) {
			return fmt.Errorf("rate %v of model %d, must not be negative (releases per second)", r, m)
		}
		if r > 0 && math.IsInf(float64(time.Second)/r, 0) {
			return fmt.Errorf("rate %v of model %d is too low to have a period; zero means no releases", r, m)
		}
		total += r
	}
	if err := t.validateProcess(); err != nil {
		return err
	}
	if n := total * t.Duration.Seconds(); n > MaxArrivals {
		return fmt.Errorf("about %.3g arrivals, at most %d are generated: lower the rates or the duration", n, MaxArrivals)
	}
	return nil
}

func (t *Config) validateProcess() error {
	if int(t.Process) >= len(arrivalNames) {
		return fmt.Errorf("arrival process %d does not exist", t.Process)
	}
	if int(t.Phases) >= len(phaseNames) {
		return fmt.Errorf("phases %d do not exist", t.Phases)
	}
	if t.Process == Bursts && (t.BurstOn <= 0 || t.BurstOff < 0) {
		return fmt.Errorf("bursts of %v with %v between them: the first must be positive, the second not negative", t.BurstOn,
			t.BurstOff)
	}
	if t.Process == Bursts && float64(t.Duration)/(float64(t.BurstOn)+float64(t.BurstOff)) > MaxArrivals {
		return fmt.Errorf("bursts of %v with %v between them are too many in %v: at most about %d are generated", t.BurstOn,
			t.BurstOff, t.Duration, MaxArrivals)
	}
	if t.FirstRelease != nil && len(t.FirstRelease) != len(t.Rates) {
		return fmt.Errorf("%d first releases for %d models", len(t.FirstRelease), len(t.Rates))
	}
	for m, at := range t.FirstRelease {
		if at < 0 {
			return fmt.Errorf("first release of model %d at %v, must not be negative", m, at)
		}
	}
	for i, a := range t.Recorded {
		if a.Model < 0 || a.Model >= len(t.Rates) || a.At < 0 || (i > 0 && a.At < t.Recorded[i-1].At) {
			return fmt.Errorf("recorded arrival %d of model %d at %v: models are 0 to %d, times from 0 and in order", i, a.Model,
				a.At, len(t.Rates)-1)
		}
	}
	return nil
}
