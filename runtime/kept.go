package runtime

import (
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// Kept is what a model's finished requests kept of the accuracy: by what was measured for the variants that each used,
// where what was measured above 1 counts as 1. NaN where that is unknown.
type Kept struct {
	// Floor is what was promised of the mean; 0 where nothing was.
	Floor float64
	// Mean is that of the run, Recent of the last [sched.AccuracyWindow] requests, Worst the least that Recent ever was.
	Mean, Recent, Worst float64
}

// keeper adds up what requests keep while they run.
type keeper struct {
	models   []sched.Model
	accounts []*eventlog.Account        // by model; nil of one without variants
	used     map[int64]sched.VariantSet // by job, of those that used any
}

func (e *Executor) newKeeper() keeper {
	k := keeper{models: e.tables.System().Models, used: map[int64]sched.VariantSet{}}
	k.accounts = make([]*eventlog.Account, len(k.models))
	for m := range k.models {
		if k.models[m].Variants > 0 {
			k.accounts[m] = eventlog.NewAccount(&k.models[m])
		}
	}
	return k
}

// count takes a record into account.
func (k *keeper) count(rec *sched.Record, s *Stats) {
	switch rec.Kind {
	case sched.Completed:
		if rec.Implementation > 0 {
			im := &k.models[rec.Model].Layers[rec.Layer].Implementations[rec.Implementation]
			k.used[rec.Job] |= 1 << (im.Variant - 1)
		}
	case sched.Ended:
		a := k.accounts[rec.Model]
		if a == nil {
			return
		}
		if rec.Outcome == sched.Met || rec.Outcome == sched.Late {
			a.Finish(k.used[rec.Job])
			x := &s.Models[rec.Model].Kept
			x.Mean, x.Recent, x.Worst = a.Delivered(), a.Recent(), a.Worst()
		}
		delete(k.used, rec.Job)
	}
}
