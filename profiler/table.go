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

// TableProvider is the provider of accelerators whose latencies come from elsewhere: they stand next to measured ones
// and are simulated, and nothing can run on them. Their option "source" says where the latencies come from.
const TableProvider = "table"

// TableGranularity is the granularity of models that come from a table.
const TableGranularity = "table"

// ErrTable is wrapped by errors about a table of latencies.
var ErrTable = errors.New("latency table")

// Bounds of a table. They keep the matrix of layers, implementations and accelerators that a profile is in memory.
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
	// Clock is the frequency, in Hz, of cycles of rows without clock_hz.
	Clock float64
	// Now is when the table is read, for the document; zero means the present.
	Now time.Time
}

// Measurable reports whether the profile is of real accelerators and models only. If not, only the simulator can use
// it, and the text says why.
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

// ReadTable reads latencies from a CSV table as a profile of accelerators with provider "table". The first line names
// the columns, in any order:
//
//	model, layer, accelerator   names
//	latency_us, latency_ns or cycles
//	                            one of them: the time of one run
//	clock_hz                    of cycles; default: o.Clock
//	implementation              default "original"
//	p99_us                      the 99th percentile; default: the latency
//	macs, parameters            of the original; default 0
//	shape, ops                  of the original, as text; ops joined by +
//	device                      what the accelerator is a stream of; default none
//	x_...                       anything, not read
//
// Layers are in the order of their first rows. What is not in the table cannot run. Lines that begin with # are
// comments. Errors wrap ErrTable and name the line.
func ReadTable(r io.Reader, o TableOptions) (*Profile, error) {
	limited := &io.LimitedReader{R: r, N: maxTableBytes + 1}
	c := csv.NewReader(bomless(limited))
	c.Comment, c.ReuseRecord = '#', true
	t := tableBuilder{o: o, models: map[string]int{}, cells: map[cellIndex]tableRow{}}
	err := t.read(c)
	if limited.N == 0 {
		err = fmt.Errorf("more than %d bytes", maxTableBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	t.p.Created = created(o.Now)
	return &t.p, t.p.fill(func(at cellIndex) Cell {
		c := Cell{Refused: notInTable}
		if row, ok := t.cells[at]; ok {
			c = tableCell(row.p50)
			c.P99 = row.p99
		}
		return c
	})
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
	models  map[string]int
	cells   map[cellIndex]tableRow
}

// tableRow is what a line says about a cell.
type tableRow struct {
	line     int
	p50, p99 time.Duration
}

var tableColumns = []string{"model", "layer", "accelerator", "latency_us", "latency_ns", "cycles", "clock_hz",
	"implementation", "p99_us", "macs", "parameters", "shape", "ops", "device"}

func (t *tableBuilder) read(c *csv.Reader) error {
	for rows := 0; ; rows++ {
		row, err := c.Read()
		switch {
		case errors.Is(err, io.EOF) && rows == 0:
			return errors.New("it is empty, need a line that names the columns")
		case errors.Is(err, io.EOF):
			return t.complete()
		case err != nil:
			return err // names the line
		}
		line, _ := c.FieldPos(0)
		switch {
		case rows == 0:
			err = t.header(row)
		case rows > maxTableRows:
			err = fmt.Errorf("more than %d rows", maxTableRows)
		default:
			err = t.row(row, line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func (t *tableBuilder) header(row []string) error {
	t.columns = map[string]int{}
	for i, name := range row {
		name = strings.TrimSpace(name)
		switch {
		case strings.HasPrefix(name, "x_"):
			continue
		case !slices.Contains(tableColumns, name):
			return fmt.Errorf("unknown column %q, can be %s, or x_ and anything for what is not read",
				name, strings.Join(tableColumns, ", "))
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
	times := count(t.has("latency_us")) + count(t.has("latency_ns")) + count(t.has("cycles"))
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
	n := CellName{t.text(row, "model"), t.text(row, "layer"), cmp.Or(t.text(row, "implementation"), original),
		t.text(row, "accelerator")}
	for i, name := range []string{n.Model, n.Layer, n.Accelerator, n.Implementation} {
		if err := checkName(name); err != nil {
			return fmt.Errorf("%s: %w", []string{"model", "layer", "accelerator", "implementation"}[i], err)
		}
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
	at, err := t.place(n)
	if err != nil {
		return err
	}
	if before, twice := t.cells[at]; twice {
		return fmt.Errorf("model %q, layer %q, implementation %q, accelerator %q is there already, in line %d",
			n.Model, n.Layer, n.Implementation, n.Accelerator, before.line)
	}
	if err := t.stream(at.accelerator, t.text(row, "device")); err != nil {
		return err
	}
	t.cells[at] = tableRow{line, p50, p99}
	if n.Implementation == original {
		return t.describe(row, &t.p.Models[at.model].Layers[at.layer])
	}
	return nil
}

// stream makes an accelerator a stream of a device.
func (t *tableBuilder) stream(accelerator int, device string) error {
	s := &t.p.Accelerators[accelerator]
	if device == "" || s.Of == device {
		return nil
	}
	if err := checkName(device); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	if s.Of != "" {
		return fmt.Errorf("accelerator %q is of device %q here and of %q before", s.Name, device, s.Of)
	}
	n := slices.IndexFunc(t.p.Devices, func(d Device) bool { return d.Name == device })
	if n < 0 {
		n = len(t.p.Devices)
		t.p.Devices = append(t.p.Devices, Device{Name: device})
	}
	d := &t.p.Devices[n]
	s.Of, s.Stream = device, len(d.Accelerators)
	d.Accelerators = append(d.Accelerators, accelerator)
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
func (t *tableBuilder) place(n CellName) (at cellIndex, err error) {
	var ok bool
	if at.model, ok = t.models[n.Model]; !ok {
		if at.model = len(t.p.Models); at.model == sched.MaxModels {
			return at, fmt.Errorf("more than %d models", sched.MaxModels)
		}
		t.models[n.Model] = at.model
		t.p.Models = append(t.p.Models, Model{Name: n.Model, Granularity: TableGranularity})
		t.layers = append(t.layers, map[string]int{})
	}
	m := &t.p.Models[at.model]
	if at.layer, ok = t.layers[at.model][n.Layer]; !ok {
		at.layer = len(m.Layers)
		t.layers[at.model][n.Layer] = at.layer
		// The original comes first wherever its row is.
		m.Layers = append(m.Layers, Layer{Name: n.Layer, Implementations: []string{original}})
	}
	x := &m.Layers[at.layer]
	if at.implementation = slices.Index(x.Implementations, n.Implementation); at.implementation < 0 {
		if at.implementation = len(x.Implementations); at.implementation == sched.MaxImplementations {
			return at, fmt.Errorf("more than %d implementations of layer %q", sched.MaxImplementations, n.Layer)
		}
		x.Implementations = append(x.Implementations, n.Implementation)
	}
	if at.accelerator = t.p.accelerator(n.Accelerator); at.accelerator < 0 {
		if at.accelerator = len(t.p.Accelerators); at.accelerator == sched.MaxAccelerators {
			return at, fmt.Errorf("more than %d accelerators", sched.MaxAccelerators)
		}
		t.p.Accelerators = append(t.p.Accelerators, t.o.spec(n.Accelerator))
	}
	return at, nil
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

// complete checks the whole: that there is something, that every layer has its original, and that the matrix is not too
// large.
func (t *tableBuilder) complete() error {
	if len(t.cells) == 0 {
		return errors.New("it has no rows")
	}
	type layer struct{ model, layer int }
	have := map[layer]bool{}
	for at := range t.cells {
		if at.implementation == 0 {
			have[layer{at.model, at.layer}] = true
		}
	}
	cells := 0
	for m, model := range t.p.Models {
		for l, x := range model.Layers {
			if !have[layer{m, l}] {
				return fmt.Errorf("layer %q of model %q has no row for its %s implementation", x.Name, model.Name, original)
			}
			cells += len(x.Implementations) * len(t.p.Accelerators)
		}
	}
	if cells > maxTableCells {
		return fmt.Errorf("%d combinations of implementation and accelerator, at most %d", cells, maxTableCells)
	}
	return nil
}

// notInTable is why a cell has no time.
const notInTable = "not in the table"

// FromSystem makes a table profile of a task system's latencies and handoffs, such as those of published evaluations or
// of a plan. Deadlines, accuracies and triggers are left behind, and what streams cost each other: it is in the
// latencies.
func FromSystem(s *sched.System, o TableOptions) (*Profile, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	p := &Profile{Created: created(o.Now)}
	for _, name := range s.Accelerators {
		p.Accelerators = append(p.Accelerators, o.spec(name))
	}
	for _, d := range s.Devices {
		p.Devices = append(p.Devices, Device{Name: d.Name, Accelerators: d.Accelerators, Lead: d.Lead, Waking: d.Waking})
	}
	for i, m := range s.Models {
		model := Model{Name: m.Name, Granularity: TableGranularity}
		for n, l := range m.Layers {
			p.Handoffs = append(p.Handoffs, handoffsOf(i, n, l.Handoff)...)
			model.Layers = append(model.Layers, Layer{Name: l.Name,
				Implementations: names(l.Implementations, func(im sched.Implementation) string { return im.Name })})
		}
		p.Models = append(p.Models, model)
	}
	return p, p.fill(func(at cellIndex) Cell {
		d := s.Models[at.model].Layers[at.layer].Implementations[at.implementation].Latency[at.accelerator]
		if d == sched.Unavailable {
			return Cell{Refused: notInTable}
		}
		return tableCell(d)
	})
}

// handoffsOf are those of a layer that cost something, as a profile holds them.
func handoffsOf(model, layer int, costs [][]time.Duration) (out []Handoff) {
	for from, row := range costs {
		for to, d := range row {
			if d > 0 {
				out = append(out, Handoff{Model: model, Layer: layer, From: from, To: to, P50: d})
			}
		}
	}
	return out
}
