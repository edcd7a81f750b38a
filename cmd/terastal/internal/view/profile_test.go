package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// example has everything that a profile can hold: three accelerators, a layer
// with a long name, a variant, refused, failed and unstable cells.
func example() *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-02T03:04:05Z", ORT: "1.29.0", Precision: 0.02, Took: 12300 * time.Millisecond,
		Host: hostinfo.Info{CPU: "Test 9000", LogicalCores: 8, AllowedCores: []int{0, 1}, Governor: "powersave", Load1m: 0.5},
		Accelerators: []runtime.Spec{{Name: "cpu-big", Threads: 4, Cores: []int{0, 1, 2, 3}}, {Name: "gpu",
			Provider: "webgpu"},
			{Name: "npu", Provider: profiler.TableProvider, Options: map[string]string{"source": "npu.csv"}}},
		Models: []profiler.Model{{Name: "net", SHA256: "x", Granularity: "op", Layers: []profiler.Layer{
			{Name: "/backbone/features/features.1/conv/conv.0/conv.0.0/Conv", Ops: []string{"Conv", "Clip"},
				Shape: "1x32x112x112", MACs: 10_838_016, Parameters: 12_345, Implementations: []string{"original", "rank2"}},
			{Name: "fc", Ops: []string{"Gemm"}, Shape: "1x1000", MACs: 1_280_000, Parameters: 1_281_000,
				Implementations: []string{"original"}},
		}}},
		Handoffs:     []profiler.Handoff{{Layer: 1, From: 0, To: 1, Tensors: 1, P50: 12 * time.Microsecond}},
		Interference: []profiler.Interference{{Accelerator: 0, Busy: 1, Slowdown: 0.125, Q1: 0.1, Q3: 0.2, N: 9}},
		Dispatches:   []profiler.Dispatch{{Accelerator: 0, N: 9, P50: 3 * time.Microsecond, P99: 9 * time.Microsecond}},
		Chains: []profiler.Chain{{Accelerator: 0, N: 9, Sum: 300 * time.Microsecond, Chained: 310 * time.Microsecond,
			Whole: 250 * time.Microsecond}},
		Peaks:    []profiler.Peak{{Accelerator: 0, GMACs: 108.38016, CopyGB: 21.5}},
		Noise:    &profiler.Noise{Median: 0.004, P90: 0.011},
		Warnings: []profiler.Warning{{Code: profiler.WarnGovernor, Text: "the governor saves power"}},
	}
	at := func(l, i, k int, d time.Duration) profiler.Cell {
		return profiler.Cell{Layer: l, Implementation: i, Accelerator: k, N: 20, Min: d, Mean: d, P50: d, P90: d, P95: d,
			P99: 2 * d, Low: d - d/100, High: d + d/100}
	}
	p.Cells = []profiler.Cell{at(0, 0, 0, 200*time.Microsecond), at(0, 0, 1, 50*time.Microsecond), at(0, 0, 2,
		100*time.Microsecond),
		at(0, 1, 0, 40*time.Microsecond), {Layer: 0, Implementation: 1, Accelerator: 1, Refused: "no kernel for Einsum\nat " +
			"node 7"}, at(0, 1, 2, 30*time.Microsecond),
		at(1, 0, 0, 100*time.Microsecond), {Layer: 1, Accelerator: 1, Refused: "crashed three times: signal 11"}, at(1, 0,
			2, 150*time.Microsecond)}
	p.Cells[0].Unstable, p.Cells[0].Load, p.Cells[0].Memory = true, 7*time.Millisecond, 4_500_000
	return p
}

func profileText(p *profiler.Profile, o ProfileOptions) string {
	var b bytes.Buffer
	ProfileTable(&b, p, o)
	return b.String()
}

// Everything that was measured is shown.
func TestProfileShowsAll(t *testing.T) {
	text := profileText(example(), ProfileOptions{Wide: true})
	for _, want := range []string{
		"Test 9000, 8 cores, 2 allowed, governor powersave, load 0.50, ONNX Runtime 1.29.0",
		"measured 2026-01-02T03:04:05Z in 12.3s\n", "npu: table, source=npu.csv", "threads 4, cores [0 1 2 3]",
		"half of the cells within ± 1.0 %, all within ± 1.0 %; 6 of 7 reached ± 2.0 %; noise floor 0.4 % (p90 1.1 %)",
		"Conv+Clip", "1x32x112x112", "10.8", "12k", "1.3M", "200.0 us~", "400.0 us", "7.00 ms", "4.5 MB", "66.7 %", "54.2",
		"50 %", "4.00x", "gpu ", "refused", "as rank2",
		"-3.2 %", "+24.0 %", "0.31 ms", "0.25 ms", "each layer where it is fastest", "150.0 us",
		"cpu-big to gpu 12.0 us, at most 12.0 us",
		"+12.5 % (+10.0 % to +20.0 %)", "108 GMAC/s", "21.5 GB/s", "3.0 us",
		"no times on gpu: net …s.1/conv/conv.0/conv.0.0/Conv as rank2: no kernel for Einsum at node 7",
		"no times on gpu: net fc: crashed three times: signal 11", "warning (governor): the governor saves power",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// A layer has no share of a model that does not run there as a whole.
	if strings.Contains(text, "100.0 %") {
		t.Errorf("a share of a part in\n%s", text)
	}
}

// Tables fit their width however many accelerators there are, and say what they left out.
func TestProfileFits(t *testing.T) {
	for extra := range 4 {
		p := example()
		for i := range extra {
			k := len(p.Accelerators)
			p.Accelerators = append(p.Accelerators, runtime.Spec{Name: fmt.Sprint("another", i)})
			for _, c := range p.Cells[:9] {
				if c.Accelerator == 0 {
					c.Accelerator = k
					p.Cells = append(p.Cells, c)
				}
			}
		}
		text := profileText(p, ProfileOptions{})
		table := text[strings.Index(text, "\nnet (op"):strings.Index(text, "left out to fit")]
		for line := range strings.Lines(table) {
			if n := utf8.RuneCountInString(line) - 1; n > tableWidth {
				t.Errorf("%d accelerators: %d characters: %s", len(p.Accelerators), n, line)
			}
		}
		if strings.Contains(text, "1x1000") {
			t.Errorf("%d accelerators: the shape is there\n%s", len(p.Accelerators), text)
		}
	}
}

func TestProfileColumns(t *testing.T) {
	text := profileText(example(), ProfileOptions{Columns: []string{"shape", "peak"}})
	if !strings.Contains(text, "1x1000") || !strings.Contains(text, "of peak") || strings.Contains(text, "MMACs") ||
		strings.Contains(text, "left out") {
		t.Error(text)
	}
	testkit.Fails(t, (ProfileOptions{Columns: []string{"colour"}}).Check(), "colour")
}

// Tables from elsewhere have little: what is not there leaves no empty columns.
func TestProfileBare(t *testing.T) {
	p := testkit.Must(profiler.ReadTable(strings.NewReader("model,layer,accelerator,latency_us\nm,l,a,5\nm,k,a,15\n"),
		profiler.TableOptions{Source: "x.csv"}))(t)
	text := profileText(p, ProfileOptions{})
	for _, absent := range []string{"MMACs", "ops", "prefers", "chain", "peak", "precision", "governor", "p99"} {
		if strings.Contains(text, absent) {
			t.Errorf("%q in\n%s", absent, text)
		}
	}
	if !strings.Contains(text, "not measured: a table") || !strings.Contains(text, "75.0 %") {
		t.Error(text)
	}
}

func TestComparison(t *testing.T) {
	a, b := example(), example()
	b.Host.Governor, b.Noise, b.Warnings = "performance", nil, nil
	b.Cells[0].P50, b.Cells[0].Low, b.Cells[0].High = 250*time.Microsecond, 249*time.Microsecond, 251*time.Microsecond
	b.Accelerators[2].Name = "other"
	c := testkit.Must(profiler.Compare(a, b))(t)
	c.A, c.B = "a.json", "b.json"
	var out bytes.Buffer
	Comparison(&out, c)
	for _, want := range []string{"A: a.json, noise floor 0.4 %, warnings: governor\nB: b.json\nthey differ in " +
		"governor: powersave against performance\n", "+25.0 %", "~", "intervals, n=20", "200.0 us ± 1.0 %",
		"geomean", "1 slower, 0 faster", "only in A: 3 cells, net …onv.0/conv.0.0/Conv on npu", "only in B: 3 cells",
		"without times on one side: 2 cells",
		"4 cells: median |difference| 0.0 %, beyond 3 %: 25.0 %, significant: 25.0 %"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > tableWidth {
			t.Errorf("too wide: %s", line)
		}
	}
}

// TestSystemProfile: what decisions expect is shown like a profile, with the places where a layer cannot run.
func TestSystemProfile(t *testing.T) {
	s := system("mobile")
	s.Models[0].Layers[1].Implementations[0].Latency[1] = sched.Unavailable
	v := newProfileView(systemProfile(&s))
	if d := v.median(0, 0, 0, 0); d != 900*time.Microsecond {
		t.Errorf("the first layer takes %v, want 900us", d)
	}
	layers, _ := v.layerTable(0, ProfileOptions{})
	text := layers.String()
	if svg := string(v.heatMap(0, nil)); !strings.Contains(svg, "cell h6") || !strings.Contains(svg,
		"middle on vector: cannot run") {
		t.Errorf("the layer that cannot run on vector is not told apart in %s", svg)
	}
	for _, want := range []string{"refused", "900.0 us", "as d2s", "array"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
