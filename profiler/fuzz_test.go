package profiler_test

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
)

// Whatever a document with a right checksum holds, reading and using it ends with a result or an error.
func FuzzRead(f *testing.F) {
	cell := `{"model":0,"layer":0,"implementation":0,"accelerator":0,"n":1,"min_ns":1,"mean_ns":2,"p50_ns":2,"p90_ns":3,"p95_ns":3,"p99_ns":4,"p50_low_ns":1,"p50_high_ns":3}`
	good := `{"created":"","host":{"os":"","arch":"","logical_cores":1,"allowed_cores":[0],"load_1m":0,"memory_bytes":0,"vulkan":{},"cuda":{}},"onnxruntime":"",` +
		`"accelerators":[{"name":"a"}],"models":[{"name":"m","sha256":"","granularity":"op","layers":[{"name":"l","sha256":"","ops":[],"macs":0,"parameters":0,"implementations":["original"]}]}],"cells":[` + cell + `],` +
		`"interference":[{"accelerator":0,"busy":0,"slowdown":0.5,"slowdown_q1":0,"slowdown_q3":1,"n":1}],"dispatches":[{"accelerator":0,"n":1,"p50_ns":5,"p99_ns":9}],` +
		`"handoffs":[{"model":0,"layer":0,"from":0,"to":0,"tensors":1,"p50_ns":3}],"chains":[{"model":0,"accelerator":0,"n":1,"sum_ns":1,"chained_ns":2}],"peaks":[{"accelerator":0,"gmac_per_s":1,"copy_gb_per_s":1}]}`
	more := strings.TrimSuffix(good, "}") + `,"noise":{"median":1},"warnings":[{"code":"x"}]}`
	if _, err := readBody(f, good); err != nil {
		f.Fatalf("the seed is refused: %v", err)
	}
	for _, s := range []string{good, more, `{}`, `{"cells":[` + cell + `]}`,
		`{"models":[{"layers":[{"implementations":[]}]}]}`, `{"cells":[{"model":-1}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			t.Skip()
		}
		p, err := readBody(t, string(body))
		if err != nil {
			if s := string(body); s == good || s == more {
				t.Errorf("the seed is refused: %v", err)
			}
			return
		}
		deadlines := make([]time.Duration, len(p.Models))
		for m := range deadlines {
			deadlines[m] = time.Second
			p.Latency(m, profiler.Fastest)
		}
		p.System(deadlines, profiler.P99)
		p.Durations(1)
		p.Slowdowns()
		p.Select([]string{""}, nil)
		p.Merge(p, profiler.MergeOptions{})
		testkit.OK(t, errors.Join(p.WriteCSV(io.Discard), p.WriteBenchfmt(io.Discard)))
		profiler.Compare(p, p)
	})
}

// readBody reads a document that holds the body.
func readBody(t testing.TB, body string) (*profiler.Profile, error) {
	data, err := document.Encode(profiler.Kind, profiler.Version, json.RawMessage(body))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(t.TempDir(), "p.json")
	testkit.OK(t, document.WriteFile(path, data))
	return profiler.Read(path)
}
