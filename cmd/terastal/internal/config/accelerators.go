package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/terastal/terastal/runtime"
)

// AutoStreams lets it be measured how many streams of a device pay.
const AutoStreams = "auto"

// maxLead bounds Accelerator.Lead.
const maxLead = 100 * time.Millisecond

// spec is the accelerator in the runtime's terms, whole: with its streams in one.
func (a *Accelerator) spec() runtime.Spec {
	options, _ := pairs(a.Options) // checked by validate
	return runtime.Spec{Name: a.Name, Provider: a.Provider, Options: options, Optimization: a.Optimization,
		Threads: a.Threads, Cores: a.Cores, Device: a.Device, KeepWarm: a.KeepWarm}
}

// Specs are the accelerators in the runtime's terms, one for each stream of a device; none means automatic. A device
// whose streams are automatic is one accelerator until SetStreams says how many there are.
func (c *Config) Specs() []runtime.Spec {
	var out []runtime.Spec
	for i := range c.Accelerators {
		a := &c.Accelerators[i]
		n, err := strconv.Atoi(a.Streams)
		if err != nil {
			n = 1
		}
		for _, s := range a.spec().Streams(n) {
			if a.only == nil || s.Of == "" || slices.Contains(a.only, s.Stream) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Accelerator is the configured accelerator that a Spec was made of; nil where it was not configured.
func (c *Config) Accelerator(s *runtime.Spec) *Accelerator {
	for i := range c.Accelerators {
		if c.Accelerators[i].Name == s.OnDevice() {
			return &c.Accelerators[i]
		}
	}
	return nil
}

// Among are those of the automatic accelerators that were chosen by name: their own, or that of their device or, before
// its streams are known, of one of them.
func (c *Config) Among(automatic []runtime.Spec) ([]runtime.Spec, error) {
	if c.among == nil {
		return automatic, nil
	}
	var out []runtime.Spec
	found := map[string]bool{}
	for _, s := range automatic {
		wanted := false
		for _, name := range c.among {
			_, stream := runtime.StreamOf(name, s.Name)
			if name == s.Name || name == s.OnDevice() || stream {
				wanted, found[name] = true, true
			}
		}
		if wanted {
			out = append(out, s)
		}
	}
	for _, name := range c.among {
		if !found[name] {
			return nil, fmt.Errorf("%w: %q is no accelerator that auto chose for these models (`terastal doctor` lists them) and no "+
				"execution provider", ErrInvalid, name)
		}
	}
	return out, nil
}

// SetStreams says how many streams a device has that has as many as pay. Streams that were chosen by name have to be
// among them.
func (a *Accelerator) SetStreams(n int) error {
	for _, i := range a.only {
		if i >= n {
			return fmt.Errorf("%w: there is no accelerator %q: %d streams of %s pay", ErrInvalid,
				runtime.StreamName(a.Name, i), n, a.Name)
		}
	}
	if n == 1 {
		a.only = nil
	}
	a.Cores = a.Cores[:min(n, len(a.Cores))]
	a.Streams = strconv.Itoa(n)
	return nil
}

// mayHave reports whether the accelerator can have a stream of that number.
func (a *Accelerator) mayHave(stream int) bool {
	n, err := strconv.Atoi(a.Streams)
	return a.Streams == AutoStreams || err == nil && n > 1 && stream < n
}

// called reports whether a name is the accelerator's, or that of one of its streams.
func (a *Accelerator) called(name string) bool {
	i, is := runtime.StreamOf(name, a.Name)
	return name == a.Name || is && a.mayHave(i)
}

// ChooseAccelerators keeps the accelerators of these names; what is none of theirs is taken for an execution provider.
// The name of a device stands for all its streams. "auto" stands for those that are chosen for the machine and the
// models, no names for those of the configuration. Where that has none, names that are not all providers' are of those
// that are chosen. Plugins are names of providers that ONNX Runtime does not know.
func (c *Config) ChooseAccelerators(names []string, plugins ...string) {
	if len(names) == 0 {
		return
	}
	noProvider := func(name string) bool {
		return runtime.Spec{Name: name, Provider: name}.Validate() != nil && !slices.Contains(plugins, name)
	}
	if len(c.Accelerators) == 0 && !slices.Equal(names, []string{"auto"}) && slices.ContainsFunc(names, noProvider) {
		c.among = names
		return
	}
	var chosen []Accelerator
	for _, name := range names {
		a := Accelerator{Name: name, Provider: name}
		if i := slices.IndexFunc(c.Accelerators, func(a Accelerator) bool { return a.called(name) }); i >= 0 {
			a = c.Accelerators[i]
			if n, is := runtime.StreamOf(name, a.Name); is && name != a.Name {
				a.only = []int{n}
			}
		}
		if i := slices.IndexFunc(chosen, func(x Accelerator) bool { return x.Name == a.Name }); i >= 0 {
			chosen[i].also(a.only)
			continue
		}
		chosen = append(chosen, a)
	}
	if slices.Equal(names, []string{"auto"}) {
		chosen = nil
		if c.Auto == AutoKeep {
			c.Auto = AutoChoose
		}
	}
	c.Accelerators = chosen
}

// also adds streams to those that are chosen; nil for all.
func (a *Accelerator) also(streams []int) {
	if a.only == nil || streams == nil {
		a.only = nil
		return
	}
	a.only = append(a.only, streams...)
	slices.Sort(a.only)
	a.only = slices.Compact(a.only)
}

func (a *Accelerator) validate(names map[string]bool) error {
	known := names[a.Name]
	names[a.Name] = true
	_, err := pairs(a.Options)
	if err != nil {
		err = fmt.Errorf("options: %w", err)
	}
	emulated := a.Provider == runtime.EmulatedProvider
	return cmp.Or(
		check(a.Name != "", "it has no name"),
		check(!known, "two accelerators are named %q", a.Name), err,
		check(slices.Contains([]string{"", "on", "off"}, a.Cache), "cache is %q, must be on or off", a.Cache),
		check(emulated == (a.Table != ""), "provider is %q and table %q: emulated accelerators need a table, and only they "+
			"take one", a.Provider, a.Table),
		check((!emulated || len(a.Options) == 0) && (emulated || !a.Compute),
			"options are for execution providers, compute for emulated accelerators"),
		a.validateDevice())
}

// validateDevice checks what only devices with memories of their own have.
func (a *Accelerator) validateDevice() error {
	s := a.spec()
	n, notNumber := strconv.Atoi(a.Streams)
	auto := a.Streams == AutoStreams
	none := s.CPU() || a.Provider == runtime.EmulatedProvider
	several := auto || n > 1
	if a.Streams == "" {
		n, notNumber = 1, nil
	}
	return cmp.Or(
		check(auto || notNumber == nil && n >= 1 && n <= runtime.MaxStreams,
			"streams of %q is %q, must be 1 to %d or auto", a.Name, a.Streams, runtime.MaxStreams),
		check(!none || !several, "streams of %q: a device has streams, such as a GPU; more CPU or emulated accelerators "+
			"are entries of the list", a.Name),
		check(auto || n == 1 || s.HasStreams(),
			"streams of %q is %d, but the provider %q has one queue: leave it out", a.Name, n, a.Provider),
		check(!several || a.Threads <= 1, "threads of %q is %d, but each of its streams has one thread: leave it out",
			a.Name, a.Threads),
		check(auto || n == 1 || len(a.Cores) == 0 || len(a.Cores) == n,
			"cores of %q: %d for %d streams, must be one for each", a.Name, len(a.Cores), n),
		check(!none || !a.KeepWarm, "keep_warm of %q: it is for devices that fall asleep, such as a GPU", a.Name),
		check(!none || a.Lead == nil, "lead of %q: it is for devices that layers are submitted to, such as a GPU", a.Name),
		check(a.Lead == nil || *a.Lead >= 0 && *a.Lead <= maxLead, "lead of %q is %v, must be 0s to %v", a.Name, a.Lead,
			maxLead))
}

// validateNames refuses an accelerator that has the name of another one's stream.
func (c *Config) validateNames() error {
	for i := range c.Accelerators {
		for j := range c.Accelerators {
			if name := c.Accelerators[j].Name; i != j && c.Accelerators[i].called(name) {
				return fmt.Errorf("accelerators[%d]: %q is the name of a stream of %q", j, name, c.Accelerators[i].Name)
			}
		}
	}
	return nil
}
