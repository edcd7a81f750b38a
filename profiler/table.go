package profiler

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// TableProvider is the provider of accelerators whose latencies come from
// elsewhere: they stand beside measured ones and are simulated, and nothing can
// run on them. Their option "source" says where the latencies come from.
const TableProvider = "table"

// TableGranularity is the granularity of models that come from a table.
const TableGranularity = "table"

// original names the implementation that every layer has.
const original = "original"

// ErrTable is wrapped by errors about a table of latencies.
var ErrTable = errors.New("latency table")

// Bounds of a table. They keep the matrix of layers, implementations and
// accelerators that a profile is in memory.
const (
	maxTableBytes = 64 << 20
	maxTableRows  = 1 << 17
	maxTableCells = 1 << 20
	maxTableName  = 256 // bytes of a name
	maxTableTime  = time.Hour
)

// TableOptions say what a table does not.
type TableOptions struct {
	// Source goes into the provenance, such as the file's name.
	Source string
	// Origin says more about where the numbers come from; empty is nothing.
	Origin string
	// Clock is the frequency, in Hz, of cycles without a clock_hz of their own.
	Clock float64
	// Now is when the table is read, for the document.
	Now time.Time
}

// Measurable reports whether the profile is of real accelerators and models
// only. If not, only the simulator can use it, and the text says why.
func (p *Profile) Measurable() (bool, string) {
	for _, s := range p.Accelerators {
		if s.Provider == TableProvider {
			return false, fmt.Sprintf("the latencies of accelerator %q come from a table (%s)", s.Name, s.Options["source"])
		}
	}
	for _, m := range p.Models {
		if m.SHA256 == "" {
			return false, fmt.Sprintf("model %q was not measured from a file", m.Name)
		}
	}
	return true, ""
}

// ReadTable reads latencies from a CSV table as a profile of accelerators with
// provider "table". The first line names the columns, in any order:
//
//	model, layer, accelerator   names
//	latency_us, latency_ns or cycles
//	                            one of them: the time of one run
//	clock_hz                    of cycles; default: o.Clock
//	implementation              default "original"
//	p99_us                      the 99th percentile; default: the latency
//	macs, parameters            of the original; default 0
//	shape, ops                  of the original, as text; ops joined by +
//	x_...                       anything, not read
//
// Layers are in the order of their first rows. What is not in the table cannot
// run. Lines that begin with # are comments. Errors wrap ErrTable and name the
// line.
func ReadTable(r io.Reader, o TableOptions) (*Profile, error) {
	limited := &io.LimitedReader{R: r, N: maxTableBytes + 1}
	c := csv.NewReader(bomless(limited))
	c.Comment, c.ReuseRecord = '#', true
	t := tableBuilder{o: o, seen: map[[4]int]int{}, names: map[string]int{}}
	err := t.read(c)
	if limited.N == 0 {
		err = fmt.Errorf("more than %d bytes", maxTableBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	return t.profile(), nil
}

// bomless skips the mark that spreadsheets put before UTF-8.
func bomless(r io.Reader) io.Reader {
	var first [3]byte
	n, _ := io.ReadFull(r, first[:])
	head := strings.TrimPrefix(string(first[:n]), "\ufeff")
	return io.MultiReader(strings.NewReader(head), r)
}

// tableBuilder makes a profile from rows.
type tableBuilder struct {
	o       TableOptions
	columns map[string]int
	p       Profile
	layers  []map[string]int // by model: the layer's index by name
	names   map[string]int   // of models
	cells   []Cell
	seen    map[[4]int]int // the line of a cell
}

var tableColumns = []string{"model", "layer", "accelerator", "latency_us", "latency_ns", "cycles", "clock_hz", "implementation", "p99_us", "macs", "parameters", "shape", "ops"}

func (t *tableBuilder) read(c *csv.Reader) error {
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty, need a line that names the columns")
	}
	if err != nil {
		return err
	}
	if err := t.header(header); err != nil {
		line, _ := c.FieldPos(0)
		return fmt.Errorf("line %d: %w", line, err)
	}
	for rows := 0; ; rows++ {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err // names the line
		}
		line, _ := c.FieldPos(0)
		if rows == maxTableRows {
			return fmt.Errorf("line %d: more than %d rows", line, maxTableRows)
		}
		if err := t.row(row, line); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return t.complete()
}

func (t *tableBuilder) header(row []string) error {
	t.columns = map[string]int{}
	for i, name := range row {
		name = strings.TrimSpace(name)
		switch {
		case strings.HasPrefix(name, "x_"):
			continue
		case !slices.Contains(tableColumns, name):
			return fmt.Errorf("unknown column %q, can be %s, or x_ and anything for what is not read", name, strings.Join(tableColumns, ", "))
		}
		if _, twice := t.columns[name]; twice {
			return fmt.Errorf("column %q is there twice", name)
		}
		t.columns[name] = i
	}
	for _, need := range tableColumns[:3] {
		if !t.has(need) {
			return fmt.Errorf("there is no column %q", need)
		}
	}
	times := 0
	for _, name := range []string{"latency_us", "latency_ns", "cycles"} {
		if t.has(name) {
			times++
		}
	}
	switch {
	case times != 1:
		return fmt.Errorf("%d columns with times, need one of latency_us, latency_ns and cycles", times)
	case t.has("clock_hz") && !t.has("cycles"):
		return errors.New("clock_hz is for cycles, and there is no column cycles")
	case t.o.Clock != 0 && !t.has("cycles"):
		return errors.New("a clock is given, and there is no column cycles")
	case t.has("cycles") && !t.has("clock_hz") && t.o.Clock == 0:
		return errors.New("cycles need a clock: a column clock_hz, or one for the whole table")
	}
	return nil
}

func (t *tableBuilder) has(column string) bool { _, ok := t.columns[column]; return ok }

// text is the row's value of a column, "" where the table has no such column.
func (t *tableBuilder) text(row []string, column string) string {
	i, ok := t.columns[column]
	if !ok {
		return ""
	}
	return strings.Clone(strings.TrimSpace(row[i]))
}

func (t *tableBuilder) row(row []string, line int) error {
	var names [3]string
	for i, column := range tableColumns[:3] {
		names[i] = t.text(row, column)
		if err := checkName(names[i]); err != nil {
			return fmt.Errorf("%s: %w", column, err)
		}
	}
	impl := cmp.Or(t.text(row, "implementation"), original)
	if err := checkName(impl); err != nil {
		return fmt.Errorf("implementation: %w", err)
	}
	p50, err := t.latency(row)
	if err != nil {
		return err
	}
	p99 := p50
	if s := t.text(row, "p99_us"); s != "" {
		if p99, err = timeOf(s, 1e3, "p99_us"); err != nil {
			return err
		}
		if p99 < p50 {
			return fmt.Errorf("p99_us %s is below the latency of %v", s, p50)
		}
	}
	at, err := t.place(names[0], names[1], impl, names[2])
	if err != nil {
		return err
	}
	if before := t.seen[at]; before > 0 {
		return fmt.Errorf("model %q, layer %q, implementation %q, accelerator %q is there already, in line %d", names[0], names[1], impl, names[2], before)
	}
	t.seen[at] = line
	if impl == original {
		if err := t.describe(row, &t.p.Models[at[0]].Layers[at[1]]); err != nil {
			return err
		}
	}
	c := tableCell(p50)
	c.Model, c.Layer, c.Implementation, c.Accelerator, c.P99 = at[0], at[1], at[2], at[3], p99
	t.cells = append(t.cells, c)
	return nil
}

// tableCell is a cell with one time.
func tableCell(d time.Duration) Cell {
	return Cell{N: 1, Min: d, Mean: d, P50: d, P90: d, P95: d, P99: d, Low: d, High: d}
}

func (t *tableBuilder) latency(row []string) (time.Duration, error) {
	switch {
	case t.has("latency_us"):
		return timeOf(t.text(row, "latency_us"), 1e3, "latency_us")
	case t.has("latency_ns"):
		return timeOf(t.text(row, "latency_ns"), 1, "latency_ns")
	}
	clock := t.o.Clock
	if s := t.text(row, "clock_hz"); s != "" {
		var err error
		if clock, err = strconv.ParseFloat(s, 64); err != nil {
			return 0, fmt.Errorf("clock_hz: %q is not a number", s)
		}
	}
	if err := CheckClock(clock); err != nil {
		return 0, err
	}
	return timeOf(t.text(row, "cycles"), 1e9/clock, "cycles")
}

// CheckClock fails unless a clock is from 1 kHz to 1 THz.
func CheckClock(hz float64) error {
	if !(hz >= 1e3 && hz <= 1e12) {
		return fmt.Errorf("a clock of %g Hz, must be 1 kHz to 1 THz", hz)
	}
	return nil
}

// timeOf reads a time in units of so many nanoseconds. It is never zero.
func timeOf(s string, unit float64, what string) (time.Duration, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(x) {
		return 0, fmt.Errorf("%s: %q is not a number", what, s)
	}
	if ns := x * unit; x > 0 && ns <= float64(maxTableTime) {
		return max(1, time.Duration(math.Round(ns))), nil
	}
	return 0, fmt.Errorf("%s: %s must be positive and at most %v", what, s, maxTableTime)
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("the name is empty")
	case len(s) > maxTableName:
		return fmt.Errorf("a name of %d bytes, at most %d", len(s), maxTableName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("the name %q is not plain text", s)
	}
	return nil
}

// place finds or makes the indices of a cell.
func (t *tableBuilder) place(model, layer, impl, acc string) ([4]int, error) {
	m, ok := t.names[model]
	if !ok {
		m = len(t.p.Models)
		if m == sched.MaxModels {
			return [4]int{}, fmt.Errorf("more than %d models", sched.MaxModels)
		}
		t.names[model] = m
		t.p.Models = append(t.p.Models, Model{Name: model, Granularity: TableGranularity})
		t.layers = append(t.layers, map[string]int{})
	}
	l, ok := t.layers[m][layer]
	if !ok {
		l = len(t.p.Models[m].Layers)
		t.layers[m][layer] = l
		// The original comes first wherever its row is.
		t.p.Models[m].Layers = append(t.p.Models[m].Layers, Layer{Name: layer, Implementations: []string{original}})
	}
	x := &t.p.Models[m].Layers[l]
	i := slices.Index(x.Implementations, impl)
	if i < 0 {
		if i = len(x.Implementations); i == sched.MaxImplementations {
			return [4]int{}, fmt.Errorf("more than %d implementations of layer %q", i, layer)
		}
		x.Implementations = append(x.Implementations, impl)
	}
	k := slices.IndexFunc(t.p.Accelerators, func(s runtime.Spec) bool { return s.Name == acc })
	if k < 0 {
		if k = len(t.p.Accelerators); k == sched.MaxAccelerators {
			return [4]int{}, fmt.Errorf("more than %d accelerators", k)
		}
		t.p.Accelerators = append(t.p.Accelerators, t.o.spec(acc))
	}
	return [4]int{m, l, i, k}, nil
}

func (o TableOptions) spec(name string) runtime.Spec {
	s := runtime.Spec{Name: name, Provider: TableProvider, Options: map[string]string{"source": o.Source}}
	if o.Origin != "" {
		s.Options["origin"] = o.Origin
	}
	if o.Clock != 0 {
		s.Options["clock_hz"] = strconv.FormatFloat(o.Clock, 'f', -1, 64)
	}
	return s
}

// describe takes what a row says about its layer; rows must not disagree.
func (t *tableBuilder) describe(row []string, l *Layer) error {
	for _, x := range []struct {
		column string
		into   *int64
	}{{"macs", &l.MACs}, {"parameters", &l.Parameters}} {
		s := t.text(row, x.column)
		if s == "" {
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s: %q is not a whole number from 0", x.column, s)
		}
		if *x.into != 0 && *x.into != n {
			return fmt.Errorf("%s of layer %q is %d here and %d before", x.column, l.Name, n, *x.into)
		}
		*x.into = n
	}
	shape, ops := t.text(row, "shape"), t.text(row, "ops")
	for _, s := range []string{shape, ops} {
		if s != "" && checkName(s) != nil {
			return fmt.Errorf("shape or ops: %w", checkName(s))
		}
	}
	if shape != "" && l.Shape != "" && shape != l.Shape {
		return fmt.Errorf("shape of layer %q is %s here and %s before", l.Name, shape, l.Shape)
	}
	l.Shape = cmp.Or(shape, l.Shape)
	if ops != "" {
		l.Ops = strings.Split(ops, "+")
	}
	return nil
}

// complete checks the whole: that there is something, that every layer has its
// original, and that the matrix is not too large.
func (t *tableBuilder) complete() error {
	if len(t.cells) == 0 {
		return errors.New("it has no rows")
	}
	have := map[[2]int]bool{}
	for at := range t.seen {
		if at[2] == 0 {
			have[[2]int{at[0], at[1]}] = true
		}
	}
	cells := 0
	for m, model := range t.p.Models {
		for l, layer := range model.Layers {
			if !have[[2]int{m, l}] {
				return fmt.Errorf("layer %q of model %q has no row for its %s implementation", layer.Name, model.Name, original)
			}
			cells += len(layer.Implementations) * len(t.p.Accelerators)
		}
	}
	if cells > maxTableCells {
		return fmt.Errorf("%d combinations of implementation and accelerator, at most %d", cells, maxTableCells)
	}
	return nil
}

// notInTable is why a cell has no time.
const notInTable = "not in the table"

// profile is what was read, with refused cells where the table has none.
func (t *tableBuilder) profile() *Profile {
	p := &t.p
	p.Created = t.o.Now.UTC().Format(time.RFC3339)
	p.Cells = make([]Cell, 0, len(t.cells))
	given := map[[4]int]*Cell{}
	for i := range t.cells {
		c := &t.cells[i]
		given[[4]int{c.Model, c.Layer, c.Implementation, c.Accelerator}] = c
	}
	p.eachPlace(func(at [4]int) {
		if c := given[at]; c != nil {
			p.Cells = append(p.Cells, *c)
		} else {
			p.Cells = append(p.Cells, Cell{Model: at[0], Layer: at[1], Implementation: at[2], Accelerator: at[3], Refused: notInTable})
		}
	})
	return p
}

// eachPlace calls f for every model, layer, implementation and accelerator, by
// accelerator first.
func (p *Profile) eachPlace(f func(at [4]int)) {
	for k := range p.Accelerators {
		for m := range p.Models {
			for l := range p.Models[m].Layers {
				for i := range p.Models[m].Layers[l].Implementations {
					f([4]int{m, l, i, k})
				}
			}
		}
	}
}

// FromSystem makes a table profile of a task system's latencies, such as those
// of published evaluations. Deadlines, accuracies and triggers are left behind.
func FromSystem(s *sched.System, o TableOptions) (*Profile, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	p := &Profile{Created: o.Now.UTC().Format(time.RFC3339)}
	for _, name := range s.Accelerators {
		p.Accelerators = append(p.Accelerators, o.spec(name))
	}
	for _, m := range s.Models {
		model := Model{Name: m.Name, Granularity: TableGranularity}
		for _, l := range m.Layers {
			layer := Layer{Name: l.Name}
			for _, im := range l.Implementations {
				layer.Implementations = append(layer.Implementations, im.Name)
			}
			model.Layers = append(model.Layers, layer)
		}
		p.Models = append(p.Models, model)
	}
	p.eachPlace(func(at [4]int) {
		c := Cell{Refused: notInTable}
		if d := s.Models[at[0]].Layers[at[1]].Implementations[at[2]].Latency[at[3]]; d != sched.Unavailable {
			c = tableCell(d)
		}
		c.Model, c.Layer, c.Implementation, c.Accelerator = at[0], at[1], at[2], at[3]
		p.Cells = append(p.Cells, c)
	})
	return p, nil
}
