package policy

import (
	"slices"
	"sort"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
)

// reference is the policies of package sched once more, written from the paper as plainly as possible: slow, and
// obviously right. It reads the system itself, never the compiled tables.
type reference struct {
	sys *sched.System
	sched.TerastalOptions
	accounts *plainAccounts // nil: variants as published
}

// option is one way to run a job's next layer.
type option struct {
	implementation, accelerator int
	finish                      time.Duration
	detour                      time.Duration // by which the rest takes longer from there than from the best accelerator
}

// counts is when it ends for those that look further.
func (o option) counts() time.Duration { return o.finish + o.detour }

// options lists the ways to run the next layer of a job, given when each usable
// accelerator is free, in order of implementation, then accelerator.
func (r reference) options(j sched.Job, free map[int]time.Duration) []option {
	model := r.sys.Models[j.Model]
	layer, after := model.Layers[j.Layer], model.Layers[j.Layer+1:]
	var out []option
	for i, im := range layer.Implementations {
		if i > 0 && (r.Originals || !isValid(model, j.Used|1<<(im.Variant-1))) {
			continue
		}
		for k := range r.sys.Accelerators {
			at, usable := free[k]
			if !usable || im.Latency[k] == sched.Unavailable {
				continue
			}
			finish := max(at, j.Ready) + handoff(layer, j.At, k) + im.Latency[k]
			out = append(out, option{i, k, finish, shortest(after, int32(k)) - shortest(after, sched.Idle)})
		}
	}
	return out
}

func isValid(m sched.Model, set sched.VariantSet) bool {
	return set == 0 || slices.Contains(m.Valid, set)
}

// earliest is the first of the options that end earliest.
func earliest(options []option) option {
	return slices.MinFunc(options, func(a, b option) int { return int(a.finish - b.finish) })
}

// quickest is the first of the options that count as ending earliest.
func quickest(options []option) option {
	return slices.MinFunc(options, func(a, b option) int { return int(a.counts() - b.counts()) })
}

func keep(options []option, wanted func(option) bool) []option {
	return slices.DeleteFunc(slices.Clone(options), func(o option) bool { return !wanted(o) })
}

// freeTimes says when each accelerator in service is free, and which are idle.
func freeTimes(s *sched.State) (free map[int]time.Duration, idle map[int]bool) {
	free, idle = map[int]time.Duration{}, map[int]bool{}
	for k, a := range s.Accelerators {
		switch {
		case a.Down:
		case a.Job == sched.Idle:
			free[k], idle[k] = max(s.Now, a.Free), true // later where it is about to end a layer or rests
		case a.Free < s.Now: // late: expected any moment
			free[k] = s.Now
		default:
			free[k] = a.Free
		}
	}
	return free, idle
}

// waiting lists the indices of the jobs whose next layer is ready.
func waiting(s *sched.State) []int {
	var out []int
	for i, j := range s.Jobs {
		if j.On == sched.Idle {
			out = append(out, i)
		}
	}
	return out
}

func (r reference) listed(s *sched.State, key func(sched.Job) time.Duration) []sched.Choice {
	free, idle := freeTimes(s)
	jobs := waiting(s)
	sort.SliceStable(jobs, func(a, b int) bool { return key(s.Jobs[jobs[a]]) < key(s.Jobs[jobs[b]]) })
	var out []sched.Choice
	for _, i := range jobs {
		can := keep(r.options(s.Jobs[i], free), func(o option) bool { return idle[o.accelerator] && o.implementation == 0 })
		if len(can) == 0 {
			continue
		}
		o := earliest(can)
		idle[o.accelerator] = false
		out = append(out, sched.Choice{Job: int32(i), Accelerator: int32(o.accelerator), Reason: sched.FastestIdle})
	}
	return out
}

func (r reference) terastal(s *sched.State) []sched.Choice {
	free, idle := freeTimes(s)
	var out []sched.Choice
	var now sched.State // with what the choices use
	now.CopyFrom(s)
	assign := func(i int, o option, why sched.Reason) {
		free[o.accelerator], idle[o.accelerator] = o.finish, false
		out = append(out, sched.Choice{Job: int32(i), Implementation: int32(o.implementation),
			Accelerator: int32(o.accelerator), Reason: why})
		if r.accounts != nil {
			r.accounts.take(&now, out[len(out)-1])
		}
	}
	options := func(i int) []option { return r.affordable(&now, s.Jobs[i], r.options(s.Jobs[i], free)) }

	// Ready layers by best-case slack. One that can run nowhere gets nothing.
	slack := map[int]time.Duration{}
	var ready []int
	for _, i := range waiting(s) {
		if can := options(i); len(can) > 0 {
			slack[i] = r.virtualDeadline(s.Jobs[i]) - quickest(can).counts()
			ready = append(ready, i)
		}
	}
	sort.SliceStable(ready, func(a, b int) bool { return slack[ready[a]] < slack[ready[b]] })

	// Stage 1.
	var pending []int
	for _, i := range ready {
		v := r.virtualDeadline(s.Jobs[i])
		fits := keep(options(i), func(o option) bool { return idle[o.accelerator] && o.counts() <= v })
		if slack[i] < 0 { // what is decided here may pay back accuracy, which changes nothing for those that had no hope
			fits = nil
		}
		if o, ok := r.withinBudget(&now, s.Jobs[i], fits); !ok {
			pending = append(pending, i)
		} else if o.implementation == 0 {
			assign(i, o, sched.MeetsBudget)
		} else {
			assign(i, o, sched.VariantMeetsBudget)
		}
	}

	// Stage 2.
	for {
		type gain struct {
			i      int
			o      option
			finite bool // there is something to wait for
			size   time.Duration
		}
		var best *gain
		for _, i := range pending {
			all := options(i)
			busy := keep(all, func(o option) bool { return !idle[o.accelerator] && o.implementation == 0 })
			for _, o := range keep(all, func(o option) bool { return idle[o.accelerator] }) {
				// Without anything to wait for, every option gains; the earliest most.
				g := gain{i: i, o: o, size: -o.counts()}
				if len(busy) > 0 {
					g.finite, g.size = true, quickest(busy).counts()-o.counts()
				}
				if g.finite && g.size <= 0 {
					continue
				}
				if best == nil || (best.finite && !g.finite) || (best.finite == g.finite && g.size > best.size) {
					best = &g
				}
			}
		}
		if best == nil {
			return out
		}
		assign(best.i, best.o, sched.Backfill)
		pending = slices.DeleteFunc(pending, func(i int) bool { return i == best.i })
	}
}

// virtualDeadline is the release plus the shares of the job's window that
// Algorithm 1 gives the layers up to the current one; some policies have another.
func (r reference) virtualDeadline(j sched.Job) time.Duration {
	if r.Deadlines {
		return j.Deadline
	}
	budget := schedtest.VirtualDeadline(r.sys, j)
	laxity := j.Deadline - shortest(r.left(j)[1:], sched.Idle)
	return budget + time.Duration(r.Laxity*float64(laxity-budget))
}

// withinBudget is stage 1: of the options that meet the virtual deadline the earliest original, else the earliest; where
// accuracy has a price, the one that is cheapest with it.
func (r reference) withinBudget(s *sched.State, j sched.Job, fits []option) (option, bool) {
	if len(fits) == 0 {
		return option{}, false
	}
	if r.accounts != nil {
		return slices.MinFunc(fits, func(a, b option) int { return int(r.tolled(s, j, a) - r.tolled(s, j, b)) }), true
	}
	if originals := keep(fits, func(o option) bool { return o.implementation == 0 }); len(originals) > 0 {
		fits = originals
	}
	return quickest(fits), true
}

// affordable are the options that accuracy floors leave.
func (r reference) affordable(s *sched.State, j sched.Job, all []option) []option {
	if r.accounts == nil {
		return all
	}
	return r.accounts.allowed(s, j, all)
}
