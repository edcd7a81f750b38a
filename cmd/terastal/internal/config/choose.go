package config

import (
	"path/filepath"
	"slices"
	"strings"
)

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

// ChooseAccelerators keeps the accelerators of these names; what is none of theirs is taken for an execution provider.
// "auto" stands for those that suit the machine, no names for those of the configuration.
func (c *Config) ChooseAccelerators(names []string) {
	if len(names) == 0 {
		return
	}
	var chosen []Accelerator
	for _, name := range names {
		a := Accelerator{Name: name, Provider: name}
		if i := slices.IndexFunc(c.Accelerators, func(a Accelerator) bool { return a.Name == name }); i >= 0 {
			a = c.Accelerators[i]
		}
		chosen = append(chosen, a)
	}
	if slices.Equal(names, []string{"auto"}) {
		chosen = nil
	}
	c.Accelerators = chosen
}
