package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/terastal/terastal/runtime"
)

// Exporter serves the latest statistics to Prometheus, at /metrics.
type Exporter struct {
	server http.Server
	addr   string
	done   chan struct{}

	mu     sync.Mutex
	policy string
	stats  runtime.Stats
}

// Export listens at an address, host and port; without a host only this machine can connect. Close has to be called.
func Export(addr string) (*Exporter, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	e := &Exporter{addr: l.Addr().String(), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		e.write(w)
	})
	e.server = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(e.done)
		e.server.Serve(l)
	}()
	return e, nil
}

// Addr is where it listens.
func (e *Exporter) Addr() string { return e.addr }

// Close stops listening.
func (e *Exporter) Close() error {
	err := e.server.Close()
	<-e.done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Update makes these statistics the latest.
func (e *Exporter) Update(policy string, s runtime.Stats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy, e.stats.At = policy, s.At
	e.stats.Models = append(e.stats.Models[:0], s.Models...)
	e.stats.Accelerators = append(e.stats.Accelerators[:0], s.Accelerators...)
}

// write writes Prometheus's text format.
func (e *Exporter) write(out io.Writer) {
	e.mu.Lock()
	policy, s := e.policy, e.stats
	s.Models, s.Accelerators = slices.Clone(s.Models), slices.Clone(s.Accelerators)
	e.mu.Unlock()
	w := bufio.NewWriter(out)
	defer w.Flush()
	head := func(name, kind, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	model := func(m *runtime.ModelStats) string {
		return fmt.Sprintf("policy=%s,model=%s", quote(policy), quote(m.Name))
	}
	head("terastal_requests_released_total", "counter", "Requests released.")
	for i := range s.Models {
		fmt.Fprintf(w, "terastal_requests_released_total{%s} %d\n", model(&s.Models[i]), s.Models[i].Released)
	}
	head("terastal_requests_ended_total", "counter", "Requests ended, by outcome.")
	for i := range s.Models {
		m := &s.Models[i]
		for _, x := range []struct {
			outcome string
			n       int
		}{{"met", m.Met}, {"late", m.Late}, {"dropped", m.Dropped}, {"failed", m.Failed}} {
			fmt.Fprintf(w, "terastal_requests_ended_total{%s,outcome=%q} %d\n", model(m), x.outcome, x.n)
		}
	}
	head("terastal_requests_active", "gauge", "Requests in the system.")
	for i := range s.Models {
		fmt.Fprintf(w, "terastal_requests_active{%s} %d\n", model(&s.Models[i]), s.Models[i].Active)
	}
	head("terastal_variant_layers_total", "counter", "Layers that ran as a variant.")
	for i := range s.Models {
		fmt.Fprintf(w, "terastal_variant_layers_total{%s} %d\n", model(&s.Models[i]), s.Models[i].Variants)
	}
	head("terastal_latency_seconds", "summary", "Time from the scheduled release to the end of finished requests.")
	for i := range s.Models {
		m := &s.Models[i]
		for _, q := range []float64{.5, .9, .99} {
			fmt.Fprintf(w, "terastal_latency_seconds{%s,quantile=\"%g\"} %g\n", model(m), q, m.Latency.Quantile(q).Seconds())
		}
		fmt.Fprintf(w, "terastal_latency_seconds_sum{%s} %g\nterastal_latency_seconds_count{%s} %d\n", model(m),
			m.Latency.Sum().Seconds(), model(m), m.Latency.N())
	}
	accelerator := func(a *runtime.AcceleratorStats) string {
		return "policy=" + quote(policy) + ",accelerator=" + quote(a.Name)
	}
	head("terastal_accelerator_busy_seconds_total", "counter", "Time that layers ran.")
	for i := range s.Accelerators {
		fmt.Fprintf(w, "terastal_accelerator_busy_seconds_total{%s} %g\n", accelerator(&s.Accelerators[i]),
			s.Accelerators[i].Busy.Seconds())
	}
	head("terastal_accelerator_layers_total", "counter", "Layers run.")
	for i := range s.Accelerators {
		fmt.Fprintf(w, "terastal_accelerator_layers_total{%s} %d\n", accelerator(&s.Accelerators[i]),
			s.Accelerators[i].Layers)
	}
	head("terastal_accelerator_up", "gauge", "1 in service, 0 out of service.")
	for i := range s.Accelerators {
		up := 1
		if s.Accelerators[i].Down {
			up = 0
		}
		fmt.Fprintf(w, "terastal_accelerator_up{%s} %d\n", accelerator(&s.Accelerators[i]), up)
	}
}
