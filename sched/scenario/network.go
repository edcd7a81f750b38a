package scenario

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
)

//go:embed data/layers.csv
var layersCSV string

//go:embed data/accuracy.csv
var accuracyCSV string

// kinds are the kinds of accelerators in the embedded tables, in the order of their columns.
var kinds = [...]string{"WS2048", "OS1024", "OS2048"}

// Columns of the two embedded tables. A layer's variants follow its original in the order of rows; only originals have
// energies. The variants of a combination are joined by +.
var (
	layerColumns = []string{"model", "layer", "variant", "gamma", "ws2048_ns", "os1024_ns", "os2048_ns",
		"ws2048_energy", "os1024_energy", "os2048_energy"}
	accuracyColumns = []string{"model", "variants", "normalized"}
)

// network is a model in the embedded tables.
type network struct {
	layers       []layer
	variants     int
	combinations []combination
}

type layer struct {
	name            string
	energy          [len(kinds)]float64
	implementations []implementation // the original first
}

type implementation struct {
	variant, gamma int // 0 for the original
	latency        [len(kinds)]time.Duration
}

// combination is a set of variants with its normalised accuracy.
type combination struct {
	set      sched.VariantSet
	accuracy float64
}

// embedded parses the embedded tables.
func embedded() (map[string]*network, error) { return parse(layersCSV, accuracyCSV) }

func parse(layers, accuracy string) (map[string]*network, error) {
	networks := map[string]*network{}
	if err := eachRow(layers, layerColumns, func(row []string) error { return addLayer(networks, row) }); err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	if err := eachRow(accuracy, accuracyColumns,
		func(row []string) error { return addCombination(networks, row) }); err != nil {
		return nil, fmt.Errorf("accuracy: %w", err)
	}
	return networks, nil
}

// eachRow calls f for every row of a CSV table with these columns; lines that start with # are comments.
func eachRow(table string, columns []string, f func([]string) error) error {
	r := csv.NewReader(strings.NewReader(table))
	r.Comment, r.FieldsPerRecord, r.ReuseRecord = '#', len(columns), true
	header, err := r.Read()
	if err != nil {
		return err
	}
	if !slices.Equal(header, columns) {
		return fmt.Errorf("columns %v, want %v", header, columns)
	}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(row); err != nil {
			line, _ := r.FieldPos(0)
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func addLayer(networks map[string]*network, row []string) error {
	im := implementation{}
	for k := range kinds {
		ns, err := strconv.ParseInt(row[4+k], 10, 64)
		if err != nil {
			return err
		}
		im.latency[k] = time.Duration(ns)
	}
	n := networks[row[0]]
	if n == nil {
		n = &network{}
		networks[strings.Clone(row[0])] = n
	}
	if row[2] == "" {
		l := layer{name: strings.Clone(row[1]), implementations: []implementation{im}}
		for k := range kinds {
			var err error
			if l.energy[k], err = strconv.ParseFloat(row[4+len(kinds)+k], 64); err != nil {
				return err
			}
		}
		n.layers = append(n.layers, l)
		return nil
	}
	var err error
	if im.variant, err = parseVariant(row[2]); err != nil {
		return err
	}
	if im.gamma, err = strconv.Atoi(row[3]); err != nil {
		return err
	}
	if len(n.layers) == 0 || n.layers[len(n.layers)-1].name != row[1] {
		return fmt.Errorf("variant %d does not follow its original %q", im.variant, row[1])
	}
	l := &n.layers[len(n.layers)-1]
	l.implementations = append(l.implementations, im)
	n.variants = max(n.variants, im.variant)
	return nil
}

func addCombination(networks map[string]*network, row []string) error {
	n := networks[row[0]]
	if n == nil {
		return fmt.Errorf("no layers of model %q", row[0])
	}
	var c combination
	for name := range strings.SplitSeq(row[1], "+") {
		v, err := parseVariant(name)
		if err != nil {
			return err
		}
		if v > n.variants {
			return fmt.Errorf("model %q has no variant %d", row[0], v)
		}
		c.set |= 1 << (v - 1)
	}
	var err error
	if c.accuracy, err = strconv.ParseFloat(row[2], 64); err != nil {
		return err
	}
	n.combinations = append(n.combinations, c)
	return nil
}

func parseVariant(s string) (int, error) {
	v, err := strconv.Atoi(s)
	if err != nil {
		return 0, err
	}
	if v < 1 || v > sched.MaxVariants {
		return 0, fmt.Errorf("variant %d, must be 1 to %d", v, sched.MaxVariants)
	}
	return v, nil
}

// model builds the network, without name and deadline, for the accelerators.
func (n *network) model(accelerators []Accelerator, theta float64) (sched.Model, error) {
	columns := make([]int, len(accelerators))
	for i, a := range accelerators {
		if columns[i] = slices.Index(kinds[:], a.kind()); columns[i] < 0 {
			return sched.Model{}, fmt.Errorf("no latencies on %s", a.kind())
		}
	}
	m := sched.Model{Variants: n.variants}
	for _, l := range n.layers {
		out := sched.Layer{Name: l.name}
		for _, im := range l.implementations {
			o := sched.Implementation{Name: "original", Variant: im.variant}
			if im.variant > 0 {
				o.Name = fmt.Sprintf("d2s%d", im.gamma)
			}
			for _, k := range columns {
				o.Latency = append(o.Latency, im.latency[k])
			}
			out.Implementations = append(out.Implementations, o)
		}
		m.Layers = append(m.Layers, out)
		energy := make([]float64, len(columns))
		for i, k := range columns {
			energy[i] = l.energy[k]
		}
		m.Energy = append(m.Energy, energy)
	}
	if n.variants > 0 {
		m.Valid, m.Accuracy = []sched.VariantSet{0}, []float64{1}
	}
	for _, c := range n.combinations {
		if c.accuracy >= theta {
			m.Valid, m.Accuracy = append(m.Valid, c.set), append(m.Accuracy, c.accuracy)
		}
	}
	return m, nil
}
