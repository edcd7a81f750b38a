package flow

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/runtime"
)

// latencies are an emulated accelerator's, by layer and implementation.
type latencies map[latencyKey]time.Duration

type latencyKey struct{ model, layer, implementation string }

// of is how a runtime.Emulation asks.
func (l latencies) of(u runtime.Unit) (time.Duration, bool) {
	d, ok := l[latencyKey{u.Model, u.Layer, u.Implementation}]
	return d, ok
}

// readLatencies reads CSV with the header model,layer,latency_us and
// optionally implementation, in any order. A latency that is empty or "-"
// stands for a layer that does not run there.
func readLatencies(r io.Reader) (latencies, error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace = true
	in.Comment = '#'
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	column := func(name string) int {
		return slices.IndexFunc(header, func(h string) bool { return strings.TrimSpace(h) == name })
	}
	model, layer, latency, implementation := column("model"), column("layer"), column("latency_us"), column("implementation")
	if model < 0 || layer < 0 || latency < 0 {
		return nil, fmt.Errorf("the header is %q, want model,layer,latency_us and optionally implementation", strings.Join(header, ","))
	}
	out := latencies{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		text := strings.TrimSpace(row[latency])
		if text == "" || text == "-" {
			continue
		}
		us, err := strconv.ParseFloat(text, 64)
		if err != nil || !(us > 0 && us <= 3600e6) {
			return nil, fmt.Errorf("line %d: latency %q, must be microseconds above 0 up to an hour", line, text)
		}
		key := latencyKey{strings.TrimSpace(row[model]), strings.TrimSpace(row[layer]), runtime.Original}
		if implementation >= 0 && strings.TrimSpace(row[implementation]) != "" {
			key.implementation = strings.TrimSpace(row[implementation])
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("line %d: layer %q of %q (%s) is there twice", line, key.layer, key.model, key.implementation)
		}
		out[key] = max(1, time.Duration(math.Round(us*1e3)))
	}
}
