package session

import (
	"cmp"
	"context"
	"fmt"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
)

// Prepare plans a configuration with whatever it takes: its profile is used if
// it fits, else measured. For simulating, a profile of tables will do, and ONNX
// Runtime is not touched.
func Prepare(ctx context.Context, c *config.Config, simulated bool, o Options) (*Session, error) {
	if s, err := fromTables(c, simulated, o); s != nil || err != nil {
		return s, err
	}
	w, err := Open(c, o)
	if err != nil {
		return nil, err
	}
	if err := w.EnsureProfile(ctx); err != nil {
		return nil, err
	}
	return w.Plan()
}

// fromTables plans from a profile that only the simulator can use. It returns
// nil where the profile is another one, or not there.
func fromTables(c *config.Config, simulated bool, o Options) (*Session, error) {
	path := cmp.Or(o.Profile, ownProfile(c))
	p, err := profiler.Read(path)
	if err != nil {
		return nil, nil // what follows says so, or measures one
	}
	measurable, why := p.Measurable()
	switch {
	case measurable:
		return nil, nil
	case !simulated:
		return nil, Usagef("%s: %s, so that nothing can run on it: `terastal simulate` can use this profile, "+
			"others need one that `terastal profile` measured (--profile FILE or another --out)", path, why)
	}
	s, err := OpenProfile(c, p, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o.Note("using the profile %s: %s; ONNX Runtime is not needed", path, why)
	return s, nil
}
