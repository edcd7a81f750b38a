package live

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/terastal/terastal/runtime"
)

//go:embed metrics.tmpl
var metrics string

// Exporter serves the latest statistics to Prometheus, at /metrics.
type Exporter struct {
	server http.Server
	addr   string
	done   chan struct{}
	format *template.Template

	mu     sync.Mutex
	policy string
	stats  runtime.Stats
}

// Export listens at an address, host and port; without a host only this machine can connect. Close has to be called.
func Export(addr string) (*Exporter, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	format, err := template.New("metrics").Funcs(template.FuncMap{
		"quote": func(s string) string { return `"` + quote.Replace(s) + `"` }}).Parse(metrics)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	e := &Exporter{addr: l.Addr().String(), done: make(chan struct{}), format: format}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		e.write(w) // an error is the client's: it has gone
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
func (e *Exporter) write(out io.Writer) error {
	e.mu.Lock()
	s := struct {
		Policy       string
		Models       []runtime.ModelStats
		Accelerators []runtime.AcceleratorStats
	}{e.policy, slices.Clone(e.stats.Models), slices.Clone(e.stats.Accelerators)}
	e.mu.Unlock()
	w := bufio.NewWriter(out)
	if err := e.format.Execute(w, s); err != nil {
		return err
	}
	return w.Flush()
}
