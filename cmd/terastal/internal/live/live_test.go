package live

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

func stats(at time.Duration) runtime.Stats {
	m := runtime.ModelStats{Name: `a"b`, Released: 10, Met: 6, Late: 1, Dropped: 2, Active: 1, Variants: 3}
	for range 7 {
		m.Latency.Add(4 * time.Millisecond)
	}
	m.Kept = runtime.Kept{Floor: 0.99, Mean: 0.9951, Recent: 0.9912, Worst: 0.9905}
	return runtime.Stats{At: at, Models: []runtime.ModelStats{m}, Accelerators: []runtime.AcceleratorStats{
		{Name: "x", Layers: 70, Busy: at / 2}, {Name: "y", Down: true}}}
}

// The view shows what there is, draws over itself, and rests between.
func TestView(t *testing.T) {
	var b bytes.Buffer
	v := NewView(&b)
	v.Update("edf", stats(time.Second), 5*time.Second)
	first := b.String()
	for _, want := range []string{"edf: 1.0 of 5.0 s", `a"b`, "33.3 %", "4.", "99.12 %",
		"accuracy: of the last 100 finished requests, the floor is 99 %", "busy: x 50 %, y out of service"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in\n%s", want, first)
		}
	}
	if strings.Contains(first, "\x1b") {
		t.Error("the first drawing moves the cursor")
	}
	b.Reset()
	v.Update("edf", stats(1100*time.Millisecond), 5*time.Second)
	if b.Len() > 0 {
		t.Error("it redraws too often")
	}
	v.Update("edf", stats(3*time.Second), 5*time.Second)
	if !strings.HasPrefix(b.String(), "\x1b[5A\x1b[J") {
		t.Errorf("redrawn as %q", b.String()[:20])
	}
	v.Update("terastal", stats(time.Second), 5*time.Second) // another run, from its start
	if !strings.Contains(b.String(), "terastal: 1.0 of 5.0 s") {
		t.Error("a second run is not shown")
	}
	v.Clear()
	b.Reset()
	v.Clear()
	if b.Len() > 0 {
		t.Error("there was nothing to clear")
	}
}

// A device has one entry for all its streams.
func TestViewOfStreams(t *testing.T) {
	s := stats(2 * time.Second)
	for i, name := range []string{"gpu.0", "gpu.1", "gpu.2", "a.0", "b.1", "lost.0", "lost.1"} {
		s.Accelerators = append(s.Accelerators, runtime.AcceleratorStats{Name: name, Busy: time.Duration(i) * time.Second / 2,
			Down: i == 2 || i > 4})
	}
	var b bytes.Buffer
	NewView(&b).Update("edf", s, 5*time.Second)
	want := "busy: x 50 %, y out of service, gpu (3 streams), 1 out of service, 25 %, a.0 75 %, b.1 100 %, " +
		"lost (2 streams) out of service\n"
	if !strings.HasSuffix(b.String(), want) {
		t.Errorf("%s does not end with\n%s", b.String(), want)
	}
}

// Metrics are served on this machine only, in Prometheus's format, until closed.
func TestExporter(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := testkit.Must(Export(":0"))(t)
	if !strings.HasPrefix(e.Addr(), "127.0.0.1:") {
		t.Errorf("it listens at %s", e.Addr())
	}
	e.Update("edf", stats(time.Second))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r := testkit.Must(client.Get("http://" + e.Addr() + "/metrics"))(t)
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r.Status, err)
	}
	for _, want := range []string{
		`terastal_requests_released_total{policy="edf",model="a\"b"} 10`,
		`terastal_requests_ended_total{policy="edf",model="a\"b",outcome="dropped"} 2`,
		`terastal_accelerator_busy_seconds_total{policy="edf",accelerator="x"} 0.5`,
		`terastal_accelerator_up{policy="edf",accelerator="y"} 0`,
		`terastal_accuracy_kept{policy="edf",model="a\"b"} 0.9951`, `terastal_accuracy_floor{policy="edf",model="a\"b"} 0.99`,
		`terastal_accuracy_kept_recent{policy="edf",model="a\"b"} 0.9912`, "# TYPE terastal_accuracy_floor gauge",
		`terastal_latency_seconds_count{policy="edf",model="a\"b"} 7`, "# TYPE terastal_latency_seconds summary",
	} {
		if !strings.Contains(string(body), want+"\n") {
			t.Errorf("%q is not in\n%s", want, body)
		}
	}
	testkit.OK(t, e.Close())
	if _, err := client.Get("http://" + e.Addr() + "/metrics"); err == nil {
		t.Error("it still listens")
	}
	if _, err := Export("nowhere:none"); err == nil {
		t.Error("an address that is none is accepted")
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	l := NewLogger(slog.New(slog.NewJSONHandler(&b, nil)))
	for _, at := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 1100 * time.Millisecond} {
		l.Update("edf", stats(at))
	}
	out := b.String()
	if strings.Count(out, `"run begins"`) != 1 || strings.Count(out, `"in_service":false`) != 1 ||
		strings.Count(out, `"msg":"model"`) != 1 || strings.Count(out, `"kept":0.9951,"recent":0.9912,"worst":0.9905`) != 1 {
		t.Error(out)
	}
	// The same policy again, as comparisons have it.
	l.Update("edf", stats(200*time.Millisecond))
	l.Update("edf", stats(1200*time.Millisecond))
	if out := b.String(); strings.Count(out, `"run begins"`) != 2 || strings.Count(out, `"msg":"model"`) != 2 {
		t.Error(out)
	}
}
