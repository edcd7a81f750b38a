package flow

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/runtime"
)

// openAccelerator opens one accelerator, real or emulated, with the faults of a
// drill around it.
func (f *Flow) openAccelerator(k int) (runtime.Accelerator, error) {
	s := &f.Specs[k]
	var a runtime.Accelerator
	var err error
	if s.Provider == config.Emulated {
		a, err = f.openEmulated(s, &f.Config.Accelerators[k])
	} else if err = f.probe(*s); err == nil {
		a, err = runtime.OpenORT(*s)
	}
	if err != nil {
		return nil, err
	}
	return f.drill.Wrap(a), nil
}

// openEmulated reads the table; its checksum becomes an option of the
// accelerator, so that a profile made with another table is stale.
func (f *Flow) openEmulated(s *runtime.Spec, c *config.Accelerator) (runtime.Accelerator, error) {
	path, err := f.Config.Path(c.Table, f.opts.Root)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("accelerator %q: %w", s.Name, err)
	}
	table, err := readLatencies(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: accelerator %q: %s: %w", config.ErrInvalid, s.Name, path, err)
	}
	s.Options = map[string]string{"table": c.Table, "sha256": fmt.Sprintf("%x", sha256.Sum256(data)), "compute": fmt.Sprint(c.Compute)}
	e := runtime.Emulation{Name: s.Name, Latency: table.of, Cores: s.Cores}
	if c.Compute {
		inner := runtime.Spec{Name: s.Name, Optimization: s.Optimization, Threads: s.Threads, Cores: s.Cores}
		if e.Inner, err = runtime.OpenORT(inner); err != nil {
			return nil, err
		}
	}
	return runtime.OpenEmulated(e)
}

// emulated lists the accelerators whose latencies come from tables.
func (f *Flow) emulated() []string {
	var out []string
	for _, s := range f.Specs {
		if s.Provider == config.Emulated {
			out = append(out, fmt.Sprintf("%s from %s", s.Name, s.Options["table"]))
		}
	}
	return out
}

// aboutEmulated is a sentence about them, if there are any.
func (f *Flow) aboutEmulated() string {
	if e := f.emulated(); len(e) > 0 {
		return ". Emulated, with latencies that are no measurements: " + strings.Join(e, ", ")
	}
	return ""
}
