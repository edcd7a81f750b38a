package session

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/runtime"
)

// maxInputs bounds how many inputs the requests of a model cycle through.
const maxInputs = 256

// setInputs gives the executor the input data that the configuration names.
func (f *Flow) setInputs(ex *runtime.Executor) error {
	for m := range f.Config.Models {
		c := &f.Config.Models[m]
		if c.Inputs == "" {
			continue
		}
		data, err := f.openData(m, config.Data{Source: c.Inputs}, maxInputs)
		if err != nil {
			return fmt.Errorf("%w: model %q: %w", config.ErrInvalid, c.Name, err)
		}
		sets := make([]runtime.Tensors, data.Len())
		for i := range sets {
			set, err := data.Inputs(i)
			if err != nil {
				return fmt.Errorf("%w: model %q: input %d of %s: %w", config.ErrInvalid, c.Name, i, c.Inputs, err)
			}
			sets[i] = runtime.Tensors{}
			for j, info := range f.Networks[m].Model.Inputs() {
				sets[i][info.Name] = set[j]
			}
		}
		if err := ex.SetInputs(c.Name, sets); err != nil {
			return err
		}
		f.opts.Note("%s: %d inputs from %s", c.Name, len(sets), c.Inputs)
	}
	return nil
}

// saveOutputs writes what sampled requests computed, a .npy file for every
// output: OUT/outputs/POLICY/MODEL-inputN-NAME.npy, of which the latest request
// with an input stays.
func (f *Flow) saveOutputs(policy string, samples []runtime.Sample) error {
	plain := func(name string) string {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
				return '_'
			}
			return r
		}, name)
	}
	for _, s := range samples {
		outputs := f.Networks[s.Model].Model.Outputs()
		for i, data := range s.Outputs {
			file, err := numpy.Encode(outputs[i].Type, outputs[i].Shape, data)
			if err != nil {
				return fmt.Errorf("model %q: output %q: %w", f.Config.Models[s.Model].Name, outputs[i].Name, err)
			}
			name := fmt.Sprintf("%s-input%d-%s.npy", plain(f.Config.Models[s.Model].Name), s.Input, plain(outputs[i].Name))
			if err := document.WriteFile(filepath.Join(f.Config.Out, "outputs", policy, name), file); err != nil {
				return err
			}
		}
	}
	return nil
}
