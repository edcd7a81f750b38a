package flow

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/tensorfile"
	"github.com/terastal/terastal/runtime"
)

// setInputs gives the executor the input data that the configuration names.
func (f *Flow) setInputs(ex *runtime.Executor) error {
	for m := range f.Config.Models {
		c := &f.Config.Models[m]
		if c.Inputs == "" {
			continue
		}
		path, err := f.Config.Path(c.Inputs, f.opts.Root)
		if err != nil {
			return err
		}
		want := f.Networks[m].Model.Inputs()
		data, err := tensorfile.ReadSets(path, want, tensorfile.Normalization{Mean: c.Mean, Std: c.Std})
		if err != nil {
			return fmt.Errorf("%w: model %q: %w", config.ErrInvalid, c.Name, err)
		}
		var sets [][]*runtime.Tensor
		for _, set := range data {
			var ts []*runtime.Tensor
			for i, d := range set {
				t, err := runtime.NewTensor(want[i], d)
				if err != nil {
					return fmt.Errorf("model %q: %w", c.Name, err)
				}
				ts = append(ts, t)
			}
			sets = append(sets, ts)
		}
		if err := ex.SetInputs(m, sets); err != nil {
			return err
		}
		f.opts.Note("%s: %d inputs from %s", c.Name, len(sets), path)
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
			file, err := tensorfile.EncodeArray(outputs[i], data)
			if err != nil {
				return fmt.Errorf("model %q: %w", f.Config.Models[s.Model].Name, err)
			}
			name := fmt.Sprintf("%s-input%d-%s.npy", plain(f.Config.Models[s.Model].Name), s.Input, plain(outputs[i].Name))
			if err := document.WriteFile(filepath.Join(f.Config.Out, "outputs", policy, name), file); err != nil {
				return err
			}
		}
	}
	return nil
}
