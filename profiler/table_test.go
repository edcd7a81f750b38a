package profiler_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
)

const npu = `# from a simulator
model,layer,accelerator,implementation,latency_us,p99_us,macs,parameters,shape,ops,x_note
net,/conv1,npu,,10,12.5,1000,10,1x8x7x7,Conv+Relu,first
net,/conv1,dsp,,20,,,,,,
net,/fc,npu,d2s2,1.5,,,,,,
net,/fc,npu,original,4,,,,,Gemm,
kws,in,dsp,,0.0001,,,,,,
`

func readTable(t *testing.T, text string, o profiler.TableOptions) *profiler.Profile {
	t.Helper()
	p := testkit.Must(profiler.ReadTable(strings.NewReader(text), o))(t)
	return roundTrip(t, p)
}

// ignoreIndex compares what documents hold of profiles.
var ignoreIndex = cmpopts.IgnoreUnexported(profiler.Profile{})

// roundTrip writes and reads the profile, which must not change it.
func roundTrip(t *testing.T, p *profiler.Profile) *profiler.Profile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.json")
	testkit.OK(t, p.Write(path))
	back := testkit.Must(profiler.Read(path))(t)
	testkit.Equal(t, p, back, ignoreIndex)
	return back
}

func TestReadTable(t *testing.T) {
	p := readTable(t, "\ufeff"+npu, profiler.TableOptions{Source: "npu.csv", Now: time.Unix(1700000000, 0)})
	if p.Created != "2023-11-14T22:13:20Z" || len(p.Models) != 2 || len(p.Accelerators) != 2 ||
		p.Accelerators[1].Name != "dsp" || p.Accelerators[1].Provider != "table" ||
		p.Accelerators[1].Options["source"] != "npu.csv" {
		t.Errorf("profile %+v", p)
	}
	want := profiler.Model{Name: "net", Granularity: "table", Layers: []profiler.Layer{
		{Name: "/conv1", MACs: 1000, Parameters: 10, Shape: "1x8x7x7", Ops: []string{"Conv", "Relu"},
			Implementations: []string{"original"}},
		{Name: "/fc", Ops: []string{"Gemm"}, Implementations: []string{"original", "d2s2"}}}}
	testkit.Equal(t, want, p.Models[0])
	times := map[[4]int]time.Duration{{0, 0, 0, 0}: 10 * time.Microsecond, {0, 0, 0, 1}: 20 * time.Microsecond,
		{0, 1, 1, 0}: 1500, {0, 1, 0, 0}: 4000, {1, 0, 0, 1}: 1}
	for _, c := range p.Cells {
		want, ok := times[[4]int{c.Model, c.Layer, c.Implementation, c.Accelerator}]
		if ok != c.Measured() || c.P50 != want || ok && (c.N != 1 || c.Min != want || c.Mean != want || c.P95 != want ||
			c.Low != want || c.High != want) || !ok && c.Refused != "not in the table" {
			t.Errorf("cell %+v, want %v", c, want)
		}
		if c.P50 == 10*time.Microsecond && c.P99 != 12500 {
			t.Errorf("p99 of %+v", c)
		}
	}
	if ok, why := p.Measurable(); ok || !strings.Contains(why, "npu.csv") {
		t.Errorf("measurable: %v %q", ok, why)
	}
}

func TestReadTableCycles(t *testing.T) {
	const rows = "model,layer,accelerator,cycles\nm,l,a,1500\nm,k,a,1\n"
	p := readTable(t, rows, profiler.TableOptions{Clock: 500e6})
	if p.Cells[0].P50 != 3000 || p.Cells[1].P50 != 2 || p.Accelerators[0].Options["clock_hz"] != "500000000" {
		t.Errorf("%+v", p)
	}
	p = readTable(t, "model,layer,accelerator,cycles,clock_hz\nm,l,a,1500,1e9\nm,k,a,1500,\n",
		profiler.TableOptions{Clock: 2e9})
	if p.Cells[0].P50 != 1500 || p.Cells[1].P50 != 750 {
		t.Errorf("%+v", p.Cells)
	}
}

func TestReadTableRefuses(t *testing.T) {
	const head = "model,layer,accelerator,latency_us\n"
	for _, c := range []struct {
		text, says string
		clock      float64
	}{
		{text: "", says: "empty"},
		{text: "# only a comment\n", says: "empty"},
		{text: head, says: "no rows"},
		{text: "model,layer,latency_us\n", says: `line 1: there is no column "accelerator"`},
		{text: "model,layer,accelerator\n", says: "0 columns with times"},
		{text: "model,layer,accelerator,cycles,latency_us\n", says: "2 columns with times"},
		{text: "model,layer,accelerator,cycles\n", says: "need a clock"},
		{text: "model,layer,accelerator,latency_us,clock_hz\n", says: "clock_hz is for cycles"},
		{text: head, clock: 1e9, says: "no column cycles"},
		{text: "# a\nmodel,layer,accelerator,latency_us,stride\n", says: `line 2: unknown column "stride"`},
		{text: "model,layer,accelerator,latency_us,model\n", says: "twice"},
		{text: head + "m,l,a,1\n\nm,l,a,2\n",
			says: `line 4: model "m", layer "l", implementation "original", accelerator "a" is there already, in line 2`},
		{text: head + "m,l,a,0\n", says: "line 2: latency_us: 0 must be positive"},
		{text: head + "m,l,a,-1\n", says: "positive"},
		{text: head + "m,l,a,1e30\n", says: "at most 1h"},
		{text: head + "m,l,a,NaN\n", says: "not a number"},
		{text: head + "m,l,a,Inf\n", says: "at most 1h"},
		{text: head + "m,l,a,1 us\n", says: "not a number"},
		{text: head + "m,l,a\n", says: "wrong number of fields"},
		{text: head + "m,,a,1\n", says: "line 2: layer: the name is empty"},
		{text: head + "m,\"l\nx\",a,1\n", says: "not plain text"},
		{text: head + "m,l\xff,a,1\n", says: "not plain text"},
		{text: head + strings.Repeat("m", 257) + ",l,a,1\n", says: "257 bytes"},
		{text: "model,layer,accelerator,latency_us,implementation\nm,l,a,1,fast\n",
			says: `layer "l" of model "m" has no row for its original`},
		{text: "model,layer,accelerator,latency_us,p99_us\nm,l,a,2,1\n", says: "line 2: p99_us 1 is below"},
		{text: "model,layer,accelerator,latency_us,macs\nm,l,a,2,1\nm,l,b,2,3\n",
			says: `line 3: macs of layer "l" is 3 here and 1 before`},
		{text: "model,layer,accelerator,latency_us,macs\nm,l,a,2,1.5\n", says: "not a whole number"},
		{text: "model,layer,accelerator,latency_us,shape\nm,l,a,2,1x2\nm,l,b,2,2x1\n", says: "shape of layer"},
		{text: "model,layer,accelerator,cycles,clock_hz\nm,l,a,2,5\n", says: "1 kHz to 1 THz"},
		{text: "model,layer,accelerator,cycles,clock_hz\nm,l,a,2,x\n", says: "clock_hz"},
	} {
		_, err := profiler.ReadTable(strings.NewReader(c.text), profiler.TableOptions{Clock: c.clock})
		testkit.Fails(t, err, profiler.ErrTable, c.says)
	}
	// So is the file, although it is one comment.
	if _, err := profiler.ReadTable(io.LimitReader(endless{}, 1<<30), profiler.TableOptions{}); err == nil ||
		!strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("a long file: %v", err)
	}
	// The matrix is bounded, not only the rows.
	var b bytes.Buffer
	b.WriteString(head)
	for i := range 70 {
		b.WriteString("m,l,a" + strings.Repeat("x", i) + ",1\n")
	}
	testkit.Refused(profiler.ReadTable(&b, profiler.TableOptions{}))(t, "more than 64 accelerators")
}

// endless is a comment without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '#'
	}
	return len(b), nil
}

// Whatever the bytes, ReadTable ends with an error or a profile that can be written, read, shown and simulated.
func FuzzReadTable(f *testing.F) {
	f.Add([]byte(npu), 0.0)
	f.Add([]byte("model,layer,accelerator,cycles,clock_hz\nm,l,a,2,1e9\n"), 1e9)
	f.Add([]byte("accelerator,layer,model,latency_ns\n\"a\",\"b,\"\"c\",d,1e3\n"), 0.0)
	f.Fuzz(func(t *testing.T, data []byte, clock float64) {
		p, err := profiler.ReadTable(bytes.NewReader(data), profiler.TableOptions{Source: "fuzz", Clock: clock})
		if err != nil {
			testkit.Fails(t, err, profiler.ErrTable)
			return
		}
		p = roundTrip(t, p)
		p.Durations(1)
		deadlines := make([]time.Duration, len(p.Models))
		for m := range deadlines {
			deadlines[m] = time.Second
		}
		p.System(deadlines, profiler.P99)
		testkit.OK(t, errors.Join(p.WriteCSV(&bytes.Buffer{}), p.WriteBenchfmt(&bytes.Buffer{})))
		if c, err := profiler.Compare(p, p); err != nil || c.Summary.Beyond != 0 {
			t.Errorf("compared with itself: %+v, %v", c, err)
		}
	})
}

// A system becomes a profile from which the same system follows.
func TestFromSystem(t *testing.T) {
	s := sched.System{Accelerators: []string{"x", "y"}, Models: []sched.Model{{Name: "m", Deadline: time.Second,
		Variants: 1, Layers: []sched.Layer{
			{Name: "l", Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{5,
				sched.Unavailable}}}},
			{Name: "k", Implementations: []sched.Implementation{{Name: "original", Latency: []time.Duration{7, 8}},
				{Name: "v", Variant: 1, Latency: []time.Duration{sched.Unavailable, 3}}},
				Handoff: [][]time.Duration{{0, 3}, {4, 0}}},
		}}}}
	p := testkit.Must(profiler.FromSystem(&s, profiler.TableOptions{Source: "paper:m"}))(t)
	p = roundTrip(t, p)
	back := testkit.Must(p.System([]time.Duration{time.Second}, profiler.P50))(t)
	testkit.Equal(t, s, back)
	s.Models[0].Layers = nil
	testkit.Refused(profiler.FromSystem(&s, profiler.TableOptions{}))(t, profiler.ErrTable)
}

const added = `model,layer,accelerator,implementation,latency_us
net,/block/convb,npu,,20
net,/block/conva,npu,,10
net,/block/conva,npu,fast,5
`

// merged adds a table to the profile and plans with the result.
func merged(t *testing.T, p *profiler.Profile, table string, o profiler.MergeOptions) (*profiler.Profile, sched.System) {
	t.Helper()
	got := testkit.Must(p.Merge(readTable(t, table, profiler.TableOptions{Source: "npu.csv"}), o))(t)
	got = roundTrip(t, got)
	s := testkit.Must(got.System(slices.Repeat([]time.Duration{time.Second}, len(got.Models)), profiler.P50))(t)
	return got, s
}

// A table's accelerators stand next to the measured ones; nothing measured changes.
func TestMerge(t *testing.T) {
	p := synthetic(2, 16, noisy(1, flat))
	p.Handoffs = []profiler.Handoff{{Layer: 1, From: 0, To: 1, Tensors: 1, P50: 9}}
	before := roundTrip(t, p)
	got, s := merged(t, p, added+"other,l,npu,,1\n", profiler.MergeOptions{})
	testkit.Equal(t, before, p, ignoreIndex)
	if l := s.Models[0].Layers[0]; len(l.Implementations) != 2 ||
		l.Implementations[0].Latency[2] != 10*time.Microsecond || l.Implementations[0].Latency[0] != p.Cells[0].P50 ||
		l.Implementations[1].Latency[2] != 5*time.Microsecond || l.Implementations[1].Latency[0] != sched.Unavailable {
		t.Errorf("layer %+v", l)
	}
	if s.Models[0].Layers[1].Implementations[0].Latency[2] != 20*time.Microsecond ||
		s.Models[0].Layers[1].Handoff[0][1] != 9 {
		t.Errorf("layer %+v", s.Models[0].Layers[1])
	}
	if len(got.Warnings) != 1 || got.Warnings[0].Code != profiler.WarnImport ||
		!strings.Contains(got.Warnings[0].Text, `"other"`) {
		t.Errorf("warnings %v", got.Warnings)
	}
	if ok, _ := got.Measurable(); ok {
		t.Error("it can be run")
	}
	// By order and under another name, the first row is the first layer.
	_, s = merged(t, p, strings.ReplaceAll(added, "net", "x"),
		profiler.MergeOptions{ByOrder: true, Models: map[string]string{"x": "net"}})
	if got := s.Models[0].Layers[0].Implementations[0].Latency[2]; got != 20*time.Microsecond {
		t.Errorf("by order: %v", got)
	}
}

// Two accelerators are added, and a model that the table does not have stays as it is.
func TestMergeModels(t *testing.T) {
	p, two := synthetic(2, 16, noisy(1, flat)), synthetic(1, 16, noisy(3, flat))
	two.Models[0].Name = "two"
	for i := range two.Cells {
		two.Cells[i].Model = 1
	}
	p.Models, p.Cells = append(p.Models, two.Models[0]), append(p.Cells, two.Cells...)
	_, s := merged(t, p, `model,layer,accelerator,latency_ns
net,/block/conva,x,1
net,/block/convb,x,2
net,/block/conva,y,3
net,/block/convb,y,4
`, profiler.MergeOptions{})
	if lat := s.Models[0].Layers[1].Implementations[0].Latency; lat[2] != 2 || lat[3] != 4 {
		t.Errorf("latencies %v", lat)
	}
	if lat := s.Models[1].Layers[0].Implementations[0].Latency; lat[0] != two.Cells[0].P50 ||
		lat[2] != sched.Unavailable || lat[3] != sched.Unavailable {
		t.Errorf("latencies of a model that is not in the table %v", lat)
	}
}

// What does not belong together is refused, with what is missing.
func TestMergeRefuses(t *testing.T) {
	p := synthetic(2, 16, noisy(1, flat))
	for _, c := range []struct {
		name, table string
		o           profiler.MergeOptions
		says        string
	}{
		{"a missing layer", "model,layer,accelerator,latency_us\nnet,/block/conva,npu,1\n", profiler.MergeOptions{},
			`1 of the profile's 2 are not in the table: "/block/convb"`},
		{"an unknown layer", "model,layer,accelerator,latency_us\nnet,/block/conva,npu,1\nnet,x,npu,1\n",
			profiler.MergeOptions{}, `1 of the table's 2 layers are not in the profile: "x"; 1 of`},
		{"counts", "model,layer,accelerator,latency_us\nnet,x,npu,1\n", profiler.MergeOptions{ByOrder: true},
			"1 layers in the table and 2 in the profile"},
		{"an accelerator twice", "model,layer,accelerator,latency_us\nnet,x,a,1\n", profiler.MergeOptions{},
			`an accelerator "a" already`},
		{"no model", "model,layer,accelerator,latency_us\nx,x,npu,1\n", profiler.MergeOptions{},
			`models "x", the profile "net"`},
		{"a map from nothing", added, profiler.MergeOptions{Models: map[string]string{"y": "net"}}, `no model "y"`},
		{"a map to nothing", added, profiler.MergeOptions{Models: map[string]string{"net": "y"}}, `no model "y"`},
		{"two to one", strings.ReplaceAll(added, "net,/block/convb", "x,/block/convb"),
			profiler.MergeOptions{ByOrder: true, Models: map[string]string{"x": "net"}}, "layers in the table"},
	} {
		testkit.Refused(p.Merge(readTable(t, c.table, profiler.TableOptions{}), c.o))(t, profiler.ErrMatch, c.says)
	}
}

// A part of a profile has the same numbers under new indices.
func TestSelect(t *testing.T) {
	p := synthetic(2, 16, noisy(1, flat))
	second := synthetic(2, 16, noisy(2, flat))
	second.Models[0].Name = "two"
	p.Models = append(p.Models, second.Models[0])
	for _, c := range second.Cells {
		c.Model = 1
		p.Cells = append(p.Cells, c)
	}
	p.Handoffs = []profiler.Handoff{{Model: 1, Layer: 1, From: 0, To: 1, Tensors: 1, P50: 9},
		{Model: 0, Layer: 1, From: 0, To: 1, Tensors: 1, P50: 8}}
	p.Interference = []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: .5, N: 1}}
	p.Dispatches = []profiler.Dispatch{{Accelerator: 0, N: 1, P50: 3, P99: 4}, {Accelerator: 1, N: 1, P50: 5, P99: 6}}
	p.Chains = []profiler.Chain{{Model: 1, Accelerator: 1, N: 1, Sum: 1, Chained: 2}}
	p.Peaks = []profiler.Peak{{Accelerator: 1, GMACs: 3}}
	got := testkit.Must(p.Select([]string{"two"}, []string{"b", "a"}))(t)
	roundTrip(t, got)
	s := testkit.Must(got.System([]time.Duration{time.Second}, profiler.P50))(t)
	l := s.Models[0].Layers[1]
	// b is the first now; a is slowed down by it, and each has its dispatch.
	if l.Implementations[0].Latency[0] != second.Cells[3].P50+5 ||
		l.Implementations[0].Latency[1] != time.Duration(math.Round(1.5*float64(second.Cells[2].P50)))+3 ||
		l.Handoff[1][0] != 9 {
		t.Errorf("layer %+v", l)
	}
	if len(got.Handoffs) != 1 || got.Chains[0] != (profiler.Chain{N: 1, Sum: 1, Chained: 2}) ||
		got.Peaks[0] != (profiler.Peak{GMACs: 3}) {
		t.Errorf("%+v", got)
	}
	one, err := p.Select([]string{"net"}, []string{"a"})
	if err != nil || len(one.Cells) != 2 || len(one.Handoffs)+len(one.Interference)+len(one.Chains) != 0 {
		t.Errorf("%+v, %v", one, err)
	}
	roundTrip(t, one)
	for _, names := range [][2]string{{"x", "a"}, {"net", "x"}} {
		testkit.Refused(p.Select(names[:1], names[1:]))(t, `"x"`)
	}
	if _, err := p.Select([]string{"net", "net"}, nil); err == nil {
		t.Error("a model twice")
	}
}
