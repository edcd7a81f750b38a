package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/ort"
)

// Place is where whole models run in ordinary sessions: a provider with its device, or an emulated accelerator.
// Accelerators of the same name share one.
type Place struct {
	Name string
	// Tolerance is by what share of a tensor's largest magnitude outputs may differ there from the CPU's.
	Tolerance float64
	// PerThread says that the first run of a thread takes longer, since the provider keeps handles for each.
	PerThread bool
}

// Ordinary is what an accelerator may offer besides kernels: whole models as its users have them without a scheduler.
type Ordinary interface {
	Place() Place
	// OpenWhole opens the whole model of a network with the defaults of the accelerator's provider.
	OpenWhole(n *Network) (WholeModel, error)
}

// WholeModel is a model in an ordinary session. Run may be called from any number of goroutines: it computes out, whose
// nil entries it replaces by new tensors, from in.
type WholeModel interface {
	Run(in, out []ort.Value) error
	Close() error
}

// Placed is where a model ran as a whole, and the median of the runs by which that was chosen.
type Placed struct {
	Model, On string
	Took      time.Duration
}

// cpuPlace is the CPU with a thread for every core.
type cpuPlace struct{}

func (cpuPlace) Place() Place { return Place{Name: "cpu", Tolerance: Tolerance} }

func (cpuPlace) OpenWhole(n *Network) (WholeModel, error) { return n.whole(goruntime.NumCPU()) }

// chooses are options that say which device of a provider is meant, and so stay what they are in ordinary sessions.
var chooses = []string{"device_id", "gpu_mem_limit"}

// ordinary is the configuration of a user of the provider who sets nothing but the device: CUDA then computes float32
// in TF32, nodes that the provider does not take run on the CPU, with a thread for every core. Threads that wait do not
// spin, which spares sessions that share cores. Other providers than CUDA's keep their options, without which some have
// no device.
func (s Spec) ordinary() ort.Config {
	c := ort.Config{Provider: ort.ProviderName(s.Provider), Threads: goruntime.NumCPU(), AllowFallback: true,
		Library: s.Local.Library, Device: s.Device, Engines: s.Local.Engines, Machine: s.Local.Machine}
	if c.Provider != "cuda" {
		c.Options = s.Options
		return c
	}
	c.Options = maps.Clone(s.Options)
	maps.DeleteFunc(c.Options, func(option, _ string) bool { return !slices.Contains(chooses, option) })
	return c.With(map[string]string{"use_tf32": "1"})
}

// Place is the CPU for its accelerators, whatever their cores and options, and else the provider and its device.
func (o opened) Place() Place {
	if o.spec.CPU() {
		return cpuPlace{}.Place()
	}
	c := o.spec.ordinary()
	name := c.Provider
	if device := cmp.Or(c.Device, c.Options["device_id"], "0"); device != "0" {
		name += " " + device
	}
	_, tolerance := Spec{Provider: c.Provider, Options: c.Options}.Precision()
	return Place{name, tolerance, true}
}

func (o opened) OpenWhole(n *Network) (WholeModel, error) {
	if o.spec.CPU() {
		return cpuPlace{}.OpenWhole(n)
	}
	s, err := n.Model.Session(o.spec.ordinary())
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	return s, nil
}

// Place of an emulated accelerator is itself.
func (a *emulated) Place() Place { return Place{Name: a.as.Name + " (emulated)", Tolerance: Tolerance} }

// OpenWhole opens a model that takes as long as its layers together by Latency, which Takes does not vary, one request
// at a time for all models.
func (a *emulated) OpenWhole(n *Network) (WholeModel, error) {
	w := &emulatedWhole{n: n, on: a}
	for l := range n.Layers {
		took, ok := a.as.Latency(Unit{Model: n.Name, Layer: n.Layers[l].Name, Implementation: Original})
		if !ok {
			return nil, fmt.Errorf("accelerator %q has no latency for layer %q of %q", a.as.Name, n.Layers[l].Name, n.Name)
		}
		w.took += took
	}
	if !a.Computes() {
		return w, nil
	}
	var err error
	w.inner, err = n.whole(1)
	return w, err
}

type emulatedWhole struct {
	n     *Network
	on    *emulated
	inner *ort.Session // nil without computing
	took  time.Duration
}

func (w *emulatedWhole) Run(in, out []ort.Value) (err error) {
	w.on.whole.Lock()
	defer w.on.whole.Unlock()
	start := time.Now()
	if w.inner != nil {
		err = w.inner.Run(in, out)
	} else {
		for i, t := range w.n.Model.Outputs() {
			if out[i], err = ort.NewTensor(t.Type, t.Stored(), make([]byte, t.Bytes())); err != nil {
				break
			}
		}
	}
	waitUntil(start, w.took)
	return err
}

func (w *emulatedWhole) Close() error {
	if w.inner == nil {
		return nil
	}
	return w.inner.Close()
}

const (
	// trials is how often a model runs in a place to see how long it takes, after trialWarm runs; trialTime is how long
	// it may take to find out before the last of them begins.
	trialWarm = 2
	trials    = 5
	trialTime = 300 * time.Millisecond
)

// places are where whole models can run, each once.
func (e *Executor) places(cpu bool) (out []Ordinary, err error) {
	if cpu {
		return []Ordinary{cpuPlace{}}, nil
	}
	for _, a := range e.accs {
		o, is := as[Ordinary](a)
		if !is {
			return nil, fmt.Errorf("accelerator %q has no ordinary sessions: leave it out", a.Name())
		}
		if !slices.ContainsFunc(out, func(x Ordinary) bool { return x.Place().Name == o.Place().Name }) {
			out = append(out, o)
		}
	}
	return out, nil
}

// struck is an error where a drill is on that would not reach whole models.
func (e *Executor) struck() error {
	for _, a := range e.accs {
		if f, is := as[*faulty](a); is && f.drill.on.Load() != 0 {
			return errors.New("faults strike layers on accelerators, and it has neither: leave out the faults or the policy")
		}
	}
	return nil
}

// wholeOf is a model in an ordinary session.
type wholeOf struct {
	WholeModel
	Place
	took time.Duration // 0 where there was nothing to choose
}

// fastest opens a model where it is fastest. Where a place does not open it, another one has to.
func (m *loaded) fastest(places []Ordinary) (best wholeOf, err error) {
	var failed []error
	for _, o := range places {
		w := wholeOf{Place: o.Place()}
		if w.WholeModel, err = o.OpenWhole(m.Network); err != nil {
			failed = append(failed, err)
			continue
		}
		if len(places) > 1 {
			if w.took, err = m.try(w); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", w.Name, err), w.Close())
				continue
			}
		}
		if best.WholeModel == nil || w.took < best.took {
			best, w = w, best
		}
		if w.WholeModel != nil {
			failed = append(failed, w.Close())
		}
	}
	if best.WholeModel == nil {
		return best, oneLine(failed)
	}
	return best, nil
}

// oneLine is all of some errors.
func oneLine(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		if e != nil {
			err = fmt.Errorf("%w; %w", err, e)
		}
	}
	return err
}

// try is the median time of a few runs.
func (m *loaded) try(w WholeModel) (time.Duration, error) {
	begin := time.Now()
	var took []time.Duration
	for n := 0; n < trialWarm+trials && (n <= trialWarm || time.Since(begin) < trialTime); n++ {
		start := time.Now()
		if err := m.once(w); err != nil {
			return 0, err
		}
		if n >= trialWarm {
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// once runs a model on its first inputs.
func (m *loaded) once(w WholeModel) error {
	out := make([]ort.Value, len(m.outputs))
	if err := w.Run(values(m.sets[0]), out); err != nil {
		return err
	}
	for _, v := range out {
		v.Destroy()
	}
	return nil
}

// openWholes opens every model, those that were opened before in the same places. The caller runs alone.
func (e *Executor) openWholes(cpu bool) (out []wholeOf, err error) {
	places, err := e.places(cpu)
	if err != nil {
		return nil, err
	}
	for m, x := range e.models {
		var before Placed
		among := places
		if !cpu && e.ordinary != nil {
			before = e.ordinary[m]
			among = slices.DeleteFunc(slices.Clone(places), func(o Ordinary) bool { return o.Place().Name != before.On })
		}
		w, err := x.fastest(among)
		if err != nil {
			return out, err
		}
		w.took = cmp.Or(w.took, before.Took)
		out = append(out, w)
	}
	if !cpu {
		e.ordinary = whereWholes(e.models, out)
	}
	return out, nil
}

// whereWholes says where models run.
func whereWholes(models []*loaded, wholes []wholeOf) (out []Placed) {
	for m, w := range wholes {
		out = append(out, Placed{models[m].Network.Name, w.Name, w.took})
	}
	return out
}

// without are the options that mean nothing without a scheduler.
func (o *Options) without() (out []string) {
	if o.Drop != 0 {
		out = append(out, "drop "+o.Drop.String())
	}
	if o.Adapt {
		out = append(out, "adapt")
	}
	if o.Realtime > 0 {
		out = append(out, fmt.Sprintf("realtime %d", o.Realtime))
	}
	return out
}

// IsUnscheduled reports whether a policy's name is that of a baseline that RunUnscheduled plays.
func IsUnscheduled(policy string) bool { return policy == Unscheduled || policy == UnscheduledCPU }

// UnscheduledNames are those names, for messages.
func UnscheduledNames() string { return Unscheduled + " and " + UnscheduledCPU }
