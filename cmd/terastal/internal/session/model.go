package session

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"golang.org/x/sync/errgroup"
)

// Model is a configured model that is open.
type Model struct {
	*config.Model
	Network *runtime.Network

	source source
}

// ZooPrefix marks a model reference that names a built-in network.
const ZooPrefix = "zoo:"

// ZooSeed draws the weights of built-in networks that are opened by name.
const ZooSeed = 1

// OpenModel opens what a user calls a model: "zoo:NAME" or the path of an ONNX file. ONNX Runtime must be started.
func OpenModel(ref string, o models.Options) (*models.Model, error) {
	name, builtIn := strings.CutPrefix(ref, ZooPrefix)
	if !builtIn {
		return models.Load(ref, o)
	}
	data, err := zoo.Build(name, ZooSeed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	return models.Parse(name, data, o)
}

// source is where a model is opened from, in this process or another.
type source struct {
	Name        string   `json:"name"`
	Resolved    string   `json:"source"`
	Granularity string   `json:"granularity"`
	Dims        []string `json:"dims,omitempty"`
	// Variants are implementations besides the originals.
	Variants []plan.Variant `json:"variants,omitempty"`
}

// together calls f with 0 to n-1, as many at once as there are processors for Go, and returns the error of the lowest:
// opening a model keeps one core busy for seconds.
func together(n int, f func(int) error) error {
	errs := make([]error, n)
	var all errgroup.Group
	all.SetLimit(goruntime.GOMAXPROCS(0))
	for i := range n {
		all.Go(func() error {
			errs[i] = f(i)
			return nil
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

// load opens and splits a configured model; profile is where an earlier measurement may have found a cut.
func load(c *config.Config, mc *config.Model, root, profile string) (*Model, error) {
	if mc.Source == "" {
		return nil, fmt.Errorf("%w: model %q has no source: name an ONNX file or zoo:NAME "+
			"(only a simulation of latency tables does without)", config.ErrInvalid, mc.Name)
	}
	s := source{Name: mc.Name, Resolved: mc.Source, Granularity: mc.Granularity, Dims: mc.Dims}
	if !strings.HasPrefix(mc.Source, ZooPrefix) {
		var err error
		if s.Resolved, err = c.Path(mc.Source, root); err != nil {
			return nil, fmt.Errorf("model %q: %w", mc.Name, err)
		}
	}
	n, err := s.open(func(sha256 string) string {
		return profiler.PreviousCut(profile, journal(profile), sha256, mc.Granularity)
	})
	if err != nil {
		return nil, err
	}
	// Workers must make the same layers.
	s.Granularity = models.Cut(n.Layers).String()
	return &Model{Model: mc, Network: n, source: s}, nil
}

// open opens and splits the model. A granularity that measures is replaced by
// the cut that came of it before, if previous knows it.
func (s *source) open(previous func(sha256 string) string) (*runtime.Network, error) {
	g, err := models.ParseGranularity(s.Granularity)
	if err != nil {
		return nil, fmt.Errorf("%w: model %q: %w", config.ErrInvalid, s.Name, err)
	}
	dims, err := (&config.Model{Dims: s.Dims}).Dimensions()
	if err != nil {
		return nil, err
	}
	m, err := OpenModel(s.Resolved, models.Options{Dims: dims})
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", s.Name, err)
	}
	cut := s.Granularity
	if g.Measures() {
		cut = cmp.Or(previous(m.SHA256()), cut)
	}
	n, err := runtime.NewNetwork(s.Name, m, cut)
	if err == nil {
		n.Granularity = s.Granularity
		err = n.Attach(s.Variants, os.ReadFile)
	}
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", s.Name, err)
	}
	return n, nil
}

// builtIn is the folder next to a plan that holds the built-in networks it names.
const builtIn = "models/zoo/"

// inPlan is how a plan names the source: by a file relative to the plan's folder
// for built-in networks, else relative to the folder of the configuration.
func (s *source) inPlan(folder string) (string, error) {
	if name, is := strings.CutPrefix(s.Resolved, ZooPrefix); is {
		return builtIn + name + ".onnx", nil
	}
	rel, err := filepath.Rel(folder, s.Resolved)
	if err != nil {
		return "", fmt.Errorf("model %q: %w", s.Name, err)
	}
	return filepath.ToSlash(rel), nil
}

// writeBuiltIn writes the file of a built-in network next to the plan that names it, unless it is there.
func writeBuiltIn(folder string, m *plan.Model) error {
	name, is := strings.CutPrefix(m.Source, builtIn)
	if !is {
		return nil
	}
	path := filepath.Join(folder, m.Source)
	if data, err := os.ReadFile(path); err == nil && fmt.Sprintf("%x", sha256.Sum256(data)) == m.SHA256 {
		return nil
	}
	data, err := zoo.Build(strings.TrimSuffix(name, ".onnx"), ZooSeed)
	if err != nil {
		return err
	}
	return document.WriteFile(path, data)
}
