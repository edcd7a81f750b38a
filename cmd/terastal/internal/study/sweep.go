package study

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/terastal/terastal/sched/scenario"
)

// Sweep is a part of a grid of published scenarios.
type Sweep struct {
	Grid
	// Part is which part of the grid to simulate, as I/N.
	Part string
	// Variation changes the scenarios; see [Vary]. Empty leaves them.
	Variation string
}

// Prepare lists the cells of the sweep and completes the options.
func (s *Sweep) Prepare(o *Options) ([]Cell, error) {
	i, n, err := parseShard(s.Part)
	if err != nil {
		return nil, err
	}
	cells, err := s.Cells()
	if err != nil {
		return nil, err
	}
	o.Systems = map[string]scenario.Scenario{}
	for _, name := range s.Scenarios {
		x, err := scenario.Load(name)
		if err != nil {
			return nil, err
		}
		if s.Variation != "" {
			if x, err = Vary(x, s.Variation); err != nil {
				return nil, err
			}
		}
		o.Systems[name] = *x
	}
	if len(cells) == 0 {
		return nil, errors.New("an empty list: there is nothing to simulate")
	}
	if o.Seeds < 1 || o.Duration <= 0 || o.Workers < 1 {
		return nil, fmt.Errorf("--seeds %d, --duration %v, --workers %d: all must be positive", o.Seeds, o.Duration,
			o.Workers)
	}
	share := func(x float64) bool { return x >= 0 && x <= 100 }
	if !share(o.Drift) || !share(o.Interference) || o.Overhead < 0 || o.SearchTime < 0 {
		return nil, fmt.Errorf("--drift %v, --interference %v, --overhead %v, --search-time %v: "+
			"none may be negative, the first two are at most 100", o.Drift, o.Interference, o.Overhead, o.SearchTime)
	}
	return Shard(cells, i, n, len(s.Grid.Policies)), nil
}

func parseShard(s string) (i, n int, err error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || n < 1 || i < 1 || i > n {
		return 0, 0, fmt.Errorf("--shard %q: write I/N with I from 1 to N, such as 3/8", s)
	}
	return i, n, nil
}
