// Package gobench writes results in the format of Go's benchmarks, which benchstat reads and compares. It knows what
// the format allows in names and keys, and nothing of what is measured.
package gobench

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Writer writes results. It keeps the first error, which Err returns.
type Writer struct {
	out    *benchfmt.Writer
	config []benchfmt.Config
	err    error
}

// NewWriter makes a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{out: benchfmt.NewWriter(w)} }

// Fact is a key and its value, which every result after it has in common. benchstat sets apart what differs in any of
// them.
type Fact struct{ Key, Value string }

// Config sets the facts of the results to come. Those without a value are left out.
func (w *Writer) Config(facts ...Fact) {
	w.config = nil
	for _, f := range facts {
		if value := strings.Join(strings.Fields(f.Value), " "); value != "" {
			w.config = append(w.config, benchfmt.Config{Key: f.Key, Value: []byte(value), File: true})
		}
	}
}

// Better values of a unit.
const (
	Lower  = "lower"
	Higher = "higher"
)

// Unit says which values of a unit are better.
func (w *Writer) Unit(unit, better string) {
	key := benchfmt.UnitMetadataKey{Unit: unit, Key: "better"}
	w.write(&benchfmt.UnitMetadata{UnitMetadataKey: key, OrigUnit: unit, Value: better})
}

// Value is a number with its unit.
type Value struct {
	Number float64
	Unit   string
}

// Part is a key of a result's name and its value, in any characters.
type Part struct{ Key, Value string }

// Result writes one line: BenchmarkNAME/KEY=VALUE/...-1 N NUMBER UNIT... In the values of parts, %2F stands for a /,
// %25 for a %, and _ for white space.
//
// The number at the end, GOMAXPROCS elsewhere, keeps one that ends a name in it; it is always 1, so that benchstat -col
// does not set results apart by it.
func (w *Writer) Result(name string, parts []Part, n int, values ...Value) {
	var b strings.Builder
	b.WriteString(name)
	for _, p := range parts {
		fmt.Fprintf(&b, "/%s=%s", p.Key, escape(p.Value))
	}
	b.WriteString("-1")
	r := benchfmt.Result{Config: w.config, Name: benchfmt.Name(b.String()), Iters: n}
	for _, v := range values {
		r.Values = append(r.Values, benchfmt.Value{Value: v.Number, Unit: v.Unit})
	}
	w.write(&r)
}

func escape(s string) string {
	s = strings.NewReplacer("%", "%25", "/", "%2F").Replace(s)
	return strings.Join(strings.Fields(s), "_")
}

func (w *Writer) write(r benchfmt.Record) {
	if w.err == nil {
		w.err = w.out.Write(r)
	}
}

// Err is the first error, if there was one.
func (w *Writer) Err() error {
	if w.err != nil {
		return fmt.Errorf("write benchmark results: %w", w.err)
	}
	return nil
}
