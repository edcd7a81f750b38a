// Package inspect lists the built-in networks, describes models and their layers, and splits models into files: what
// the models verb of the command line shows.
package inspect

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

// Network is a built-in network.
type Network struct {
	Name       string  `json:"name"`
	Task       string  `json:"task"`
	Input      []int64 `json:"input"`
	Parameters int64   `json:"parameters"`
	MACs       int64   `json:"macs"`
	Published  bool    `json:"published"` // the counts come from a publication
	Trained    bool    `json:"trained"`
	Accuracy   float64 `json:"accuracy,omitempty"` // of trained networks, on their test images
	Source     string  `json:"source"`
}

// Networks lists the built-in networks.
func Networks() ([]Network, error) {
	list := []Network{}
	for _, name := range zoo.Names() {
		a, err := zoo.Info(name)
		if err != nil {
			return nil, err
		}
		list = append(list, Network{a.Name, a.Task, a.Input, a.Parameters, a.MACs, a.Published, a.Trained, a.Accuracy,
			a.Source})
	}
	return list, nil
}

// Built is a file that a built-in network was written to.
type Built struct {
	File  string `json:"file"`
	Bytes int    `json:"bytes"`
	Seed  uint64 `json:"seed"`
}

// Build writes a built-in network with weights drawn from a seed to a file; to
// NAME.onnx in the user's cache folder if path is empty.
func Build(name string, seed uint64, path string) (*Built, error) {
	data, err := zoo.Build(strings.TrimPrefix(name, session.ZooPrefix), seed)
	if err != nil {
		return nil, session.UsageError{Err: err}
	}
	if path == "" {
		cache, err := cacheFolder()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(cache, "zoo", strings.TrimPrefix(name, session.ZooPrefix)+".onnx")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("cache folder: %w; set TERASTAL_CACHE to a folder you can write", err)
		}
	}
	if err := renameio.WriteFile(path, data, 0o644); err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	return &Built{path, len(data), seed}, nil
}

// cacheFolder is where built models are kept: $TERASTAL_CACHE, or terastal in the user's cache folder.
func cacheFolder() (string, error) {
	if dir := os.Getenv("TERASTAL_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (%w): set TERASTAL_CACHE", err)
	}
	return filepath.Join(dir, "terastal"), nil
}

// Options say how a model is opened and split.
type Options struct {
	ORT string // explicit path of the ONNX Runtime library
	// Root is the folder that model files may be read from; empty for any.
	Root        string
	Granularity string
	Dims        map[string]int64 // sizes of symbolic dimensions
}

// Split is a model and its layers.
type Split struct {
	*models.Model
	Granularity string
	Layers      []models.Layer
}

// Open starts ONNX Runtime, opens a model and splits it.
func Open(ref string, o Options) (*Split, error) {
	g, err := models.ParseGranularity(o.Granularity)
	if err != nil {
		return nil, session.Usagef("--granularity: %w", err)
	}
	for name, size := range o.Dims {
		if size < 1 {
			return nil, session.Usagef("--dim %s=%d: the size must be 1 or more", name, size)
		}
	}
	if _, err := ort.Start(o.ORT); err != nil {
		return nil, err
	}
	if o.Root != "" && !strings.HasPrefix(ref, session.ZooPrefix) {
		if ref, err = new(config.Config).Path(ref, o.Root); err != nil {
			return nil, err
		}
	}
	m, err := session.OpenModel(ref, models.Options{Dims: o.Dims})
	if errors.Is(err, models.ErrDims) {
		err = session.Usagef("--dim: %w", err)
	}
	if err != nil {
		return nil, err
	}
	layers, err := m.Split(g)
	if errors.Is(err, models.ErrGranularity) {
		err = session.UsageError{Err: err}
	}
	return &Split{m, o.Granularity, layers}, err
}

// Model describes a model.
type Model struct {
	Model       string   `json:"model"`
	SHA256      string   `json:"sha256"`
	Granularity string   `json:"granularity"`
	Parameters  int64    `json:"parameters"`
	MACs        int64    `json:"macs"`
	Inputs      []Tensor `json:"inputs"`
	Outputs     []Tensor `json:"outputs"`
	BufferBytes int64    `json:"buffer_bytes"`
	Note        string   `json:"note,omitempty"` // why it has hardly any layers
	Layers      []Layer  `json:"layers"`
}

// Layer describes a layer of a model.
type Layer struct {
	Index      int      `json:"index"`
	Name       string   `json:"name"`
	Ops        []string `json:"ops"`
	MACs       int64    `json:"macs"`
	Parameters int64    `json:"parameters"`
	Inputs     []Tensor `json:"inputs"`
	Outputs    []Tensor `json:"outputs"`
	SHA256     string   `json:"sha256"`
}

// Tensor describes an input or output.
type Tensor struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Shape []int64 `json:"shape"`
	Bytes int64   `json:"bytes"`
}

func (t Tensor) String() string { return fmt.Sprintf("%s %s%v", t.Name, t.Type, t.Shape) }

// Describe describes the model and its layers.
func (s *Split) Describe() (*Model, error) {
	forms, err := s.Forms(s.Layers, models.Portable)
	if err != nil {
		return nil, err
	}
	_, buffers := models.Buffers(models.Chain(forms), 64)
	out := &Model{Model: s.Name(), SHA256: s.SHA256(), Granularity: s.Granularity, Parameters: s.Parameters(),
		MACs:        s.MACs(),
		BufferBytes: buffers, Note: s.Note(), Inputs: describe(s.Inputs()), Outputs: describe(s.Outputs()), Layers: []Layer{}}
	for _, l := range s.Layers {
		out.Layers = append(out.Layers, Layer{l.Index, l.Name, l.Ops, l.MACs, l.Parameters,
			describe(l.Inputs), describe(l.Outputs), l.SHA256})
	}
	return out, nil
}

func describe(tensors []models.Tensor) []Tensor {
	list := make([]Tensor, len(tensors))
	for i, t := range tensors {
		list[i] = Tensor{t.Name, t.Type.String(), t.Shape, t.Bytes()}
	}
	return list
}

// SplitOptions say what to do with a split model.
type SplitOptions struct {
	// Out is the folder to write layers to; empty writes none.
	Out string
	// Verify compares the chain of layers with the whole model, at an
	// optimisation level, on Inputs (see [Split.inputData]) or random data.
	Verify       bool
	Optimization string
	Inputs       []string
	Seed         uint64
}

// Result is what came of splitting; what verifying adds is absent without it.
type Result struct {
	Model        string   `json:"model"`
	Granularity  string   `json:"granularity"`
	Layers       int      `json:"layers"`
	Note         string   `json:"note,omitempty"` // why there are hardly any
	Files        []string `json:"files,omitempty"`
	Optimization string   `json:"optimization,omitempty"`
	Identical    *bool    `json:"identical,omitempty"`
	MaxAbsDiff   *float64 `json:"max_abs_diff,omitempty"` // absent when it is no number
	MaxRelDiff   *float64 `json:"max_rel_diff,omitempty"`
	Argmax       *bool    `json:"same_argmax,omitempty"`
	WholeMS      float64  `json:"whole_ms,omitempty"`
	ChainedMS    float64  `json:"chained_ms,omitempty"`
	Ratio        float64  `json:"ratio,omitempty"`
}

// Check refuses options that contradict each other.
func (o *SplitOptions) Check() error {
	if err := (ort.Config{Optimization: o.Optimization}).Validate(); err != nil {
		return session.Usagef("--optimization: %w", err)
	}
	if len(o.Inputs) > 0 && !o.Verify {
		return session.Usagef("--input is what --verify runs on: add --verify")
	}
	return nil
}

// Write writes the layers to files and verifies them, as far as the options ask for it. Where the chain of layers is
// not the whole model, it returns the result, and an error.
func (s *Split) Write(o SplitOptions) (*Result, error) {
	inputs, err := s.inputData(o.Inputs, o.Seed)
	if err != nil {
		return nil, err
	}
	r := &Result{Model: s.Name(), Granularity: s.Granularity, Layers: len(s.Layers), Note: s.Note()}
	if o.Out != "" {
		if r.Files, err = models.WriteLayers(o.Out, s.Layers); err != nil {
			return nil, err
		}
	}
	if !o.Verify {
		return r, nil
	}
	v, err := models.Verify(s.Model, s.Layers, inputs, o.Optimization, true)
	if err != nil {
		return nil, err
	}
	r.Optimization, r.Identical, r.Argmax = o.Optimization, &v.Identical, &v.Argmax
	r.MaxAbsDiff, r.MaxRelDiff = finite(v.MaxAbsDiff), finite(v.MaxRelDiff)
	r.WholeMS, r.ChainedMS, r.Ratio = v.WholeMS, v.ChainedMS, v.Ratio
	if !v.Holds(o.Optimization) {
		return r,
			fmt.Errorf("model %s: the chain of %d layers is not the whole model: outputs differ by %.3g (relative %.3g)",
				s.Name(), len(s.Layers), v.MaxAbsDiff, v.MaxRelDiff)
	}
	return r, nil
}

// finite is x where JSON can hold it, nil where it is infinite or NaN.
func finite(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}
