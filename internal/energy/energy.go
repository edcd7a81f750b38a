// Package energy meters what a machine takes while something runs on it: NVIDIA's GPUs by their driver's counters, or
// by their power where they have none, and processor packages by RAPL (Intel's and AMD's counters, on Linux). It meters
// whole devices: what they take when idle is in it, and so is what other processes make them do.
package energy

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/nvml"
)

// Ways in which a [Source] was metered.
const (
	// ByCounter is from the device's own counter.
	ByCounter = "counter"
	// ByPower is from its power, read some 20 times a second: what is between two readings is not seen.
	ByPower = "power"
)

// Kinds of devices.
const (
	GPU = "gpu"
	CPU = "cpu"
)

// Source is one device and what it took.
type Source struct {
	// Name is such as "NVIDIA L4 (0000:01:00.0)" or "package-0".
	Name   string  `json:"name"`
	Kind   string  `json:"kind"` // GPU or CPU
	How    string  `json:"how"`  // ByCounter or ByPower
	Joules float64 `json:"joules"`
}

// Reading is what was taken between a start and a stop.
type Reading struct {
	Took    time.Duration
	Sources []Source
}

// Joules is the sum over the sources of a kind.
func (r *Reading) Joules(kind string) (sum float64) {
	for i := range r.Sources {
		if r.Sources[i].Kind == kind {
			sum += r.Sources[i].Joules
		}
	}
	return sum
}

// GPUs read the energy of NVIDIA's GPUs, as [nvml.Meter] does.
type GPUs interface {
	Read() []nvml.Energy
	Close()
}

// Machine is where a meter looks. Fixtures stand in for it in tests.
type Machine struct {
	Root fs.FS                // the root folder; names have no leading slash
	GPUs func() (GPUs, error) // nil: none; [nvml.ErrNone] where there is no driver
	Now  func() time.Time
	// Every calls read again and again, until the function that it returns is called: after that it calls it no more.
	Every func(interval time.Duration, read func()) (stop func())
}

// This is the machine that the program runs on.
func This() Machine {
	return Machine{Root: os.DirFS("/"), Now: time.Now, Every: every, GPUs: func() (GPUs, error) {
		m, err := nvml.Open("")
		if err != nil {
			return nil, err
		}
		return m, nil
	}}
}

func every(interval time.Duration, read func()) (stop func()) {
	ticks, done := time.NewTicker(interval), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-ticks.C:
				read()
			case <-done:
				return
			}
		}
	})
	return func() {
		ticks.Stop()
		close(done)
		ended.Wait()
	}
}

// Meter meters one thing after the other. Use it from one goroutine.
type Meter struct {
	m        Machine
	gpus     GPUs // nil without
	packages []domain
	interval time.Duration // between readings; 0: none are needed
	notes    []string

	// Since Start:
	begin   time.Time
	sources []state
	stop    func()
}

// state is a source since the meter was started.
type state struct {
	Source
	known  bool    // there is a reading before
	before float64 // counter in J, or power in W
	at     time.Time
	lost   bool // it stopped telling
}

// samples is how far readings of power are apart.
const samples = 50 * time.Millisecond

// Open looks for what can be metered. It never fails: where there is nothing, nothing is metered, and [Meter.Notes]
// says what is there but cannot be read.
func Open(m Machine) *Meter {
	x := &Meter{m: m}
	if m.GPUs != nil {
		gpus, err := m.GPUs()
		switch {
		case err == nil:
			x.gpus = gpus
			for _, g := range gpus.Read() {
				switch {
				case g.Measures:
					x.interval = samples
					x.notes = append(x.notes, fmt.Sprintf("energy: %s has no counter of energy: it is summed up from its power, "+
						"read 20 times a second", gpuName(&g)))
				case !g.Counts:
					x.notes = append(x.notes, fmt.Sprintf("energy: %s tells neither energy nor power", gpuName(&g)))
				}
			}
		case !errors.Is(err, nvml.ErrNone):
			x.notes = append(x.notes, fmt.Sprintf("energy of GPUs is not metered: %v", err))
		}
	}
	x.findPackages()
	return x
}

// Notes are sentences about what is not metered, and how the rest is; each is worth telling once.
func (x *Meter) Notes() []string { return x.notes }

// Close ends the meter.
func (x *Meter) Close() {
	if x.gpus != nil {
		x.gpus.Close()
	}
}

// domain is a processor package.
type domain struct {
	name string
	file string  // its counter
	wrap float64 // J after which the counter begins again
}

// mostPower is more than a processor package takes, in W: it bounds how long its counter needs to wrap around.
const mostPower = 1000

func (x *Meter) findPackages() {
	// Parts of packages have two numbers, such as intel-rapl:0:1; another driver shows the first package once more, as
	// intel-rapl-mmio:0.
	folders, _ := fs.Glob(x.m.Root, "sys/class/powercap/intel-rapl:*")
	refused := 0
	for _, folder := range folders {
		if strings.Count(folder, ":") > 1 {
			continue
		}
		name, err := x.line(folder + "/name")
		if err != nil || !strings.HasPrefix(name, "package-") { // such as psys, the whole platform
			continue
		}
		d := domain{name: name, file: folder + "/energy_uj"}
		d.wrap, _ = x.microjoules(folder + "/max_energy_range_uj")
		switch _, err := x.microjoules(d.file); {
		case errors.Is(err, fs.ErrPermission):
			refused++
		case err == nil:
			x.packages = append(x.packages, d)
			if d.wrap > 0 { // twice per time around
				wraps := max(time.Second, time.Duration(d.wrap/mostPower/2*float64(time.Second)))
				if x.interval == 0 || wraps < x.interval {
					x.interval = wraps
				}
			}
		}
	}
	if refused > 0 {
		x.notes = append(x.notes, "energy of the processor is not metered: its counters are for the administrator alone "+
			"(`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj` opens them until the next start)")
	}
}

// line is the only line of a file.
func (x *Meter) line(name string) (string, error) {
	data, err := fs.ReadFile(x.m.Root, name)
	return strings.TrimSpace(string(data)), err
}

// microjoules is a number of these in a file, in J.
func (x *Meter) microjoules(name string) (float64, error) {
	text, err := x.line(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return float64(n) / 1e6, err
}

func gpuName(g *nvml.Energy) string {
	if g.Bus == "" {
		return g.Name
	}
	return g.Name + " (" + g.Bus + ")"
}

// Start starts metering.
func (x *Meter) Start() {
	x.sources, x.begin = nil, x.m.Now()
	x.read()
	x.stop = func() {}
	if x.interval > 0 {
		x.stop = x.m.Every(x.interval, x.read)
	}
}

// Stop ends what Start began. Sources that stopped telling meanwhile are left out.
func (x *Meter) Stop() Reading {
	x.stop()
	x.read()
	r := Reading{Took: x.m.Now().Sub(x.begin)}
	for i := range x.sources {
		if s := &x.sources[i]; s.known && !s.lost {
			s.Joules = math.Round(s.Joules*1000) / 1000 // counters tell no more
			r.Sources = append(r.Sources, s.Source)
		}
	}
	return r
}

// read adds what was taken since the last reading. The sources are the same, in the same order, each time.
func (x *Meter) read() {
	n := 0
	next := func(name, kind, how string) *state {
		if n == len(x.sources) {
			x.sources = append(x.sources, state{Source: Source{Name: name, Kind: kind, How: how}})
		}
		n++
		s := &x.sources[n-1]
		s.lost = s.lost || s.How != how
		return s
	}
	if x.gpus != nil {
		list := x.gpus.Read()
		now := x.m.Now()
		for i := range list {
			switch g := &list[i]; {
			case g.Counts:
				next(gpuName(g), GPU, ByCounter).count(g.Joules, 0)
			case g.Measures:
				next(gpuName(g), GPU, ByPower).integrate(g.PowerW, now)
			default:
				next(gpuName(g), GPU, "").lost = true
			}
		}
	}
	for _, d := range x.packages {
		joules, err := x.microjoules(d.file)
		s := next(d.name, CPU, ByCounter)
		if s.lost = s.lost || err != nil; !s.lost {
			s.count(joules, d.wrap)
		}
	}
}

// count takes a reading of a counter that begins again after wrap J, if that is positive. One that is smaller than the
// reading before without that was reset: what it lacks is not known.
func (s *state) count(joules, wrap float64) {
	grown := joules - s.before
	if grown < 0 {
		grown += wrap
	}
	switch {
	case s.known && grown < 0:
		s.lost = true
	case s.known:
		s.Joules += grown
	}
	s.known, s.before = true, joules
}

// integrate takes a reading of a power: between two of them it is taken to change evenly.
func (s *state) integrate(watts float64, now time.Time) {
	if s.known {
		s.Joules += (s.before + watts) / 2 * now.Sub(s.at).Seconds()
	}
	s.known, s.before, s.at = true, watts, now
}
