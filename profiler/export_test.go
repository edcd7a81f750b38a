package profiler_test

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
)

// Every cell is a row; numbers come back as they were.
func TestWriteCSV(t *testing.T) {
	p := synthetic(3, 16, noisy(1, flat))
	p.Peaks = []profiler.Peak{{Accelerator: 0, GMACs: 0.004}}
	last := &p.Cells[len(p.Cells)-1]
	*last = profiler.Cell{Layer: 2, Accelerator: 1, Refused: "no kernel, \"really\"\nnot"}
	p.Cells[0].Load, p.Cells[0].Memory = 5, 6
	var b bytes.Buffer
	testkit.OK(t, p.WriteCSV(&b))
	rows := testkit.Must(csv.NewReader(&b).ReadAll())(t)
	if len(rows) != 1+len(p.Cells) {
		t.Fatalf("%d rows", len(rows))
	}
	value := func(row int, column string) string {
		for i, name := range rows[0] {
			if name == column {
				return rows[row][i]
			}
		}
		t.Fatalf("no column %s", column)
		return ""
	}
	// Rows are by accelerator first; the cells of synthetic by layer.
	for r := 1; r < len(rows); r++ {
		k, l := (r-1)/3, (r-1)%3
		c := p.Cells[2*l+k]
		if value(r, "layer") != p.Models[0].Layers[l].Name || value(r, "accelerator") != p.Accelerators[k].Name {
			t.Errorf("row %d is %v", r, rows[r])
		}
		if c.Measured() && value(r, "p50_ns") != strconv.Itoa(int(c.P50)) || !c.Measured() && value(r, "p50_ns") != "" ||
			value(r, "refused") != c.Refused {
			t.Errorf("cell %+v became %v", c, rows[r])
		}
	}
	// 2000 MACs in about 1 ms are 0.002 GMAC/s, half of the peak; a third of the model.
	for column, want := range map[string]float64{"gmac_per_s": 0.002, "share_of_peak": 0.5, "share_of_model": 1. / 3} {
		if x, err := strconv.ParseFloat(value(3, column), 64); err != nil || x < want*.98 || x > want*1.02 {
			t.Errorf("%s is %q, want %v", column, value(3, column), want)
		}
	}
	for column, want := range map[string]string{"ops": "Conv+Relu", "shape": "1x8x7x7", "load_ns": "5",
		"memory_bytes": "6", "gmac_per_s": "", "provider": "cpu"} {
		if got := value(1, column); got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
	// On b a layer has no time, so that there is no sum to have a share of.
	if got := value(4, "share_of_model"); got != "" {
		t.Errorf("share on b is %q", got)
	}
}

// Every sample is a result with its configuration, under a name whose parts come back as they were.
func TestWriteBenchfmt(t *testing.T) {
	p := synthetic(2, 16, noisy(1, flat))
	p.Models[0].Name = "a net 100%/x"
	p.Accelerators[1].Name = "os-1024"
	p.Cells[3].Samples = nil
	p.Cells[2].Refused = "no"
	var b bytes.Buffer
	testkit.OK(t, p.WriteBenchfmt(&b))
	r := benchfmt.NewReader(bytes.NewReader(b.Bytes()), "test")
	count := map[string]int{}
	var sum time.Duration
	for r.Scan() {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok {
			t.Fatalf("%v", r.Result())
		}
		count[res.Name.String()]++
		if res.GetConfig("cpu") != "test" || res.GetConfig("onnxruntime") != "1.29.0" || res.GetConfig("goos") != "linux" {
			t.Errorf("configuration %v", res.Config)
		}
		_, parts := res.Name.Parts()
		if got := string(bytes.Join(parts, []byte(" "))); !strings.HasPrefix(got, "/model=a_net_100%25%2Fx /layer=") ||
			!strings.Contains(got, "%2Fblock%2Fconv") {
			t.Errorf("parts %q", got)
		}
		if strings.Contains(res.Name.String(), "os-1024") && !strings.HasSuffix(string(bytes.Join(parts, nil)),
			"/acc=os-1024-1") {
			t.Errorf("name %s", res.Name)
		}
		v, _ := res.Value("ns/op")
		if v == 0 {
			s, _ := res.Value("sec/op")
			v = s * 1e9
		}
		sum += time.Duration(v + .5)
	}
	testkit.OK(t, r.Err())
	want := map[string]int{}
	var total time.Duration
	for _, i := range []int{0, 1} {
		for _, s := range p.Cells[i].Samples {
			total += s
		}
	}
	total += p.Cells[3].P50
	want["Layer/model=a_net_100%25%2Fx/layer=0:%2Fblock%2Fconva/impl=original/acc=a-1"] = 16
	want["Layer/model=a_net_100%25%2Fx/layer=0:%2Fblock%2Fconva/impl=original/acc=os-1024-1"] = 16
	want["Layer/model=a_net_100%25%2Fx/layer=1:%2Fblock%2Fconvb/impl=original/acc=os-1024-1"] = 1
	for name, n := range want {
		if count[name] != n {
			t.Errorf("%s: %d results, want %d; have %v", name, count[name], n, count)
		}
	}
	if len(count) != len(want) || sum != total {
		t.Errorf("results %v, sum %v, want %v", count, sum, total)
	}
}
