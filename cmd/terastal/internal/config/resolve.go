package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Dimensions are the model's symbolic dimensions by name.
func (m *Model) Dimensions() (map[string]int64, error) {
	ps, err := pairs(m.Dims)
	if err != nil {
		return nil, fmt.Errorf("dims: %w", err)
	}
	out := map[string]int64{}
	for k, s := range ps {
		var n int64
		if _, err := fmt.Sscan(s, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("dims: %s=%s, must be a whole number from 1", k, s)
		}
		out[k] = n
	}
	return out, nil
}

// pairs reads a list of "key=value".
func pairs(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, fmt.Errorf("%q is not of the form key=value", s)
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("%q is given twice", k)
		}
		out[k] = strings.TrimSpace(v)
	}
	return out, nil
}

// Floor is the accuracy floor of a model of the configuration.
func (c *Config) Floor(m *Model) float64 {
	if m.Accuracy != nil {
		return *m.Accuracy
	}
	return c.Accuracy
}

// Promised reports whether the user gave an accuracy floor.
func (c *Config) Promised() bool { return c.promised }

// PublishedFloor is the accuracy floor of models that are published and not configured: none, as published, unless the
// user gave one.
func (c *Config) PublishedFloor() float64 {
	if c.promised {
		return c.Accuracy
	}
	return 0
}

// Drill are the configured faults.
func (c *Config) Drill() ([]runtime.Fault, error) {
	var out []runtime.Fault
	for _, text := range c.Faults {
		f, err := runtime.ParseFault(text)
		if err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
		called := func(a Accelerator) bool { return a.called(f.Accelerator) }
		if f.Accelerator != "" && len(c.Accelerators) > 0 && !slices.ContainsFunc(c.Accelerators, called) {
			return nil, fmt.Errorf("faults: %q: there is no accelerator %q", text, f.Accelerator)
		}
		out = append(out, f)
	}
	return out, nil
}

// Process is how requests arrive.
func (t *Traffic) Process() traffic.Process {
	p, _ := traffic.ParseProcess(t.Arrivals) // checked by validate
	return p
}

// DropRule is when waiting requests are given up.
func (c *Config) DropRule() sched.DropPolicy {
	d, _ := sched.ParseDrop(c.Drop) // checked by validate
	return d
}

// Folder is the absolute path of the folder that files may be read from: root,
// or the configuration's folder if root is empty.
func (c *Config) Folder(root string) (string, error) {
	if root == "" {
		root = filepath.Dir(c.file)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("model folder: %w", err)
	}
	return root, nil
}

// ErrNoFile is wrapped by the error about a file that a configuration names and that is not there.
var ErrNoFile = errors.New("there is no file")

// Path resolves a file that the configuration names, such as a model's source,
// to one inside root, or inside the configuration's folder if root is empty. A
// source that leads out of it, by its name or by a symbolic link, is refused.
func (c *Config) Path(source, root string) (string, error) {
	root, err := c.Folder(root)
	if err != nil {
		return "", err
	}
	outside := fmt.Errorf("%w: %q lies outside %s: move the file there or name its folder with --models-dir",
		ErrInvalid, source, root)
	if filepath.IsAbs(source) {
		rel, err := filepath.Rel(root, source)
		if err != nil {
			return "", outside
		}
		source = rel
	}
	if !filepath.IsLocal(source) {
		return "", outside
	}
	path := filepath.Join(root, source)
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w %s: correct its name, which is relative to %s", ErrNoFile, path, root)
	}
	if err != nil {
		return "", fmt.Errorf("model source: %w", err)
	}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", fmt.Errorf("model folder: %w", err)
	}
	if rel, err := filepath.Rel(realRoot, real); err != nil || !filepath.IsLocal(rel) {
		return "", outside
	}
	return path, nil
}

// AddSource adds a model that was named on the command line: an ONNX file,
// which is trusted where it lies, or a built-in network.
func (c *Config) AddSource(source, granularity string) error {
	name := strings.TrimPrefix(source, "zoo:")
	if name == source {
		name = strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
		var err error
		if source, err = filepath.Abs(source); err != nil {
			return err
		}
	}
	c.Models = append(c.Models, Model{Name: name, Source: source, Rate: 1, Granularity: granularity})
	return nil
}
