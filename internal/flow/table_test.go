package flow

import (
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/runtime"
)

func TestReadLatencies(t *testing.T) {
	table, err := readLatencies(strings.NewReader("# measured elsewhere\nlayer, model, implementation, latency_us\nconv1, net, , 12.5\nconv1, net, d2s, 4\nconv2, net, original, -\nfc, net, ,\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		layer, implementation string
		want                  time.Duration // 0: does not run
	}{{"conv1", runtime.Original, 12500}, {"conv1", "d2s", 4000}, {"conv2", runtime.Original, 0}, {"fc", runtime.Original, 0}, {"other", runtime.Original, 0}} {
		got, ok := table.of(runtime.Unit{Model: "net", Layer: c.layer, Implementation: c.implementation})
		if got != c.want || ok != (c.want > 0) {
			t.Errorf("%s %s: %v %v, want %v", c.layer, c.implementation, got, ok, c.want)
		}
	}
	for text, want := range map[string]string{
		"": "the header", "a,b\n": "want model,layer,latency_us", "model,layer,latency_us\nm,l\n": "wrong number of fields",
		"model,layer,latency_us\nm,l,0\n": "line 2: latency", "model,layer,latency_us\nm,l,x\n": "line 2: latency",
		"model,layer,latency_us\nm,l,1\nm,l,2\n": "line 3: layer \"l\" of \"m\" (original) is there twice",
	} {
		if _, err := readLatencies(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Whatever a table holds, its latencies are positive.
func FuzzReadLatencies(f *testing.F) {
	f.Add("model,layer,latency_us\nm,l,1\n")
	f.Add("model,layer,latency_us,implementation\nm,l,1e-9,x\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := readLatencies(strings.NewReader(text))
		for key, d := range table {
			if err == nil && d <= 0 {
				t.Errorf("%v takes %v", key, d)
			}
		}
	})
}
