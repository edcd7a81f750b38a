package session

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models/zoo"
)

// DemoImages is how many labelled glyphs the accuracy of the demo's variants is measured on; demoCalibration how many
// others there are to design from the written configuration.
const (
	DemoImages      = 500
	demoCalibration = 200
)

// DemoModels are the trained networks of the zoo, which differ in what their
// layers like, each due within a few times what it takes alone.
func DemoModels() (out []config.Model) {
	for i, name := range []string{"glyph_mobile", "glyph_resnet", "glyph_vgg", "glyph_vit"} {
		out = append(out, config.Model{Name: name, Source: ZooPrefix + name, Rate: 1,
			Deadline: time.Duration(10+5*i) * time.Millisecond, Granularity: zoo.FittedGranularity, Theta: config.DefaultTheta,
			Calibration: config.Data{Source: "glyphs:calibration", Count: demoCalibration},
			Labelled:    config.Data{Source: "glyphs:test", Count: DemoImages}, Inputs: config.LabelledInputs})
	}
	return out
}

// TakeFitted gives built-in networks the variants that were fitted for them, in place of any others.
func (v *Variants) TakeFitted() error {
	v.designer.Clear()
	for i, m := range v.w.Models {
		if err := v.Take(i, zoo.Fitted(strings.TrimPrefix(m.Source, ZooPrefix))); err != nil {
			return err
		}
	}
	return nil
}

// WriteDemo writes the demo's models and traffic as a configuration, and says where.
func WriteDemo(s *Session) (path string, err error) {
	c := s.Config
	var b bytes.Buffer
	b.WriteString("# What `terastal demo` ran. The rates are those that it chose for this machine: at load 1\n" +
		"# they demand all that its accelerators can do with the original layers.\nmodels:\n")
	for i, m := range c.Models {
		fmt.Fprintf(&b, "  - {name: %s, source: %q, rate: %.1f, deadline: %v, granularity: %s,\n",
			m.Name, m.Source, s.Plan.Document.Models[i].Rate, m.Deadline, m.Granularity)
		fmt.Fprintf(&b, "     calibration: {source: %q, count: %d}, labelled: {source: %q, count: %d}, inputs: %s}\n",
			m.Calibration.Source, m.Calibration.Count, m.Labelled.Source, m.Labelled.Count, m.Inputs)
	}
	if c.Accuracy != config.DefaultAccuracy {
		fmt.Fprintf(&b, "accuracy: %g\n", c.Accuracy)
	}
	fmt.Fprintf(&b, "traffic: {load: %g, duration: %v, seed: %d}\npolicies: [%s]\nout: %q\n",
		c.Traffic.Load, c.Traffic.Duration, c.Traffic.Seed, strings.Join(c.Policies, ", "), c.Out)
	path = filepath.Join(c.Out, "demo.yaml")
	return path, document.WriteFile(path, b.Bytes())
}
