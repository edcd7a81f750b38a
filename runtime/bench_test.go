package runtime_test

import (
	"context"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// priorities are the ways to run a benchmark: as any process, and with
// real-time priority, which tells what other processes on the machine cost.
var priorities = []struct {
	name     string
	priority int
}{{"other", 0}, {"fifo", 20}}

func benchmarkEach(b *testing.B, f func(b *testing.B, o runtime.Options)) {
	for _, p := range priorities {
		b.Run(p.name, func(b *testing.B) { f(b, runtime.Options{Realtime: p.priority, Quiet: true}) })
	}
}

// rounds is how often the benchmarks repeat what takes a fixed time, whatever
// b.N: their results are ratios and quantiles.
const rounds = 5

// pinned opens accelerators at full optimisation, each on another core, and skips where there are not enough cores.
func pinned(b *testing.B, n int) []runtime.Accelerator {
	b.Helper()
	if goruntime.NumCPU() < n {
		b.Skipf("needs %d cores", n)
	}
	var specs []runtime.Spec
	for k := range n {
		specs = append(specs, runtime.Spec{Name: fmt.Sprint("core", k), Cores: []int{k}})
	}
	return rig.Accelerators(b, specs...)
}

// loaded is networks loaded on accelerators, with made-up latencies.
func loaded(b *testing.B, accs []runtime.Accelerator, granularity string, nets ...string) (*bench, *runtime.Executor) {
	b.Helper()
	if old := goruntime.GOMAXPROCS(0); old < len(accs)+2 {
		goruntime.GOMAXPROCS(len(accs) + 2)
		b.Cleanup(func() { goruntime.GOMAXPROCS(old) })
	}
	x := &bench{accs: accs}
	for _, n := range nets {
		x.add(b, rig.Network(b, n, granularity))
	}
	return x, x.executor(b, x.system(func(_, _, _, _ int) time.Duration { return 200 * time.Microsecond }))
}

// saturate keeps a request of every model in the system until the time is over.
func saturate(b *testing.B, e *runtime.Executor, o runtime.Options, models int, length time.Duration) *runtime.Result {
	b.Helper()
	if o.Policy == "" {
		o.Policy = "fcfs"
	}
	o.Traffic = traffic.Config{Rates: slices.Repeat([]float64{1}, models), Process: traffic.ClosedLoop, Duration: length}
	r := testkit.Must(e.Run(context.Background(), o))(b)
	if len(r.Notes) > 0 {
		b.Skip(r.Notes)
	}
	return r
}

// BenchmarkGap is the time between two layers on a saturated accelerator: from
// the end of a kernel to the start of the next one, the engine's step included.
func BenchmarkGap(b *testing.B) {
	accs := pinned(b, 1)
	_, e := loaded(b, accs, "op", "ds_cnn_kws", "glyph_mobile", "glyph_resnet")
	benchmarkEach(b, func(b *testing.B, o runtime.Options) {
		var gaps runtime.Histogram
		layers := 0
		for range rounds {
			r := saturate(b, e, o, 3, 500*time.Millisecond)
			gaps.Merge(&r.Workers[0].Gaps)
			layers += r.Stats.Accelerators[0].Layers
		}
		b.ReportMetric(float64(gaps.Quantile(.5)), "gap-p50-ns")
		b.ReportMetric(float64(gaps.Quantile(.99)), "gap-p99-ns")
		b.ReportMetric(float64(gaps.Max()), "gap-max-ns")
		b.ReportMetric(float64(layers), "layers")
	})
}

// BenchmarkAllocs is what a dispatch allocates, measured over the whole process.
func BenchmarkAllocs(b *testing.B) {
	accs := pinned(b, 1)
	_, e := loaded(b, accs, "op", "ds_cnn_kws", "glyph_mobile")
	testkit.OK(b, e.Serve(runtime.Options{Policy: "terastal"}))
	defer e.Stop(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		p := testkit.Must(e.Submit(context.Background(), "ds_cnn_kws", nil, runtime.RequestOptions{}))(b)
		testkit.Must(p.Wait(context.Background()))(b)
	}
}

// BenchmarkSingleModel runs a network through the executor and as a whole in an ordinary session on the same core, in
// turn, and reports the ratio of the medians and of the 99th percentiles.
func BenchmarkSingleModel(b *testing.B) {
	for _, net := range []string{"ds_cnn_kws", "glyph_resnet", "mobilenetv2"} {
		for _, granularity := range []string{"model", "block"} {
			b.Run(net+"/"+granularity, func(b *testing.B) {
				benchmarkEach(b, func(b *testing.B, o runtime.Options) { singleModel(b, o, net, granularity) })
			})
		}
	}
}

func singleModel(b *testing.B, o runtime.Options, net, granularity string) {
	accs := pinned(b, 1)
	x, e := loaded(b, accs, granularity, net)
	o.Policy = "edf"
	testkit.OK(b, e.Serve(o))
	in := testkit.Must(x.networks[0].Inputs(7))(b)
	whole := newWholeSession(b, x.networks[0], in)
	defer whole.close()
	inputs := byName(b, in)
	out := runtime.RequestOptions{Outputs: byName(b, whole.tensors)}
	var through, direct []time.Duration
	for n := -3; n < 300; n++ {
		t := whole.run(o.Realtime)
		p := testkit.Must(e.Submit(context.Background(), net, inputs, out))(b)
		r, err := p.Wait(context.Background())
		if err != nil || r.Outcome != sched.Met && r.Outcome != sched.Late {
			b.Fatal(r, err)
		}
		if n >= 0 {
			direct, through = append(direct, t), append(through, r.Latency)
		}
	}
	e.Stop(context.Background())
	b.ReportMetric(saturatedRatio(b, e, o, whole), "x-whole-saturated")
	slices.Sort(direct)
	slices.Sort(through)
	ratio := func(q float64) float64 {
		i := int(q * float64(len(direct)-1))
		return float64(through[i]) / float64(direct[i])
	}
	b.ReportMetric(float64(direct[len(direct)/2]), "whole-p50-ns")
	b.ReportMetric(ratio(.5), "x-whole-p50")
	b.ReportMetric(ratio(.99), "x-whole-p99")
}

// saturatedRatio is the ratio of the median latencies when one request follows
// the other, in turns of a tenth of a second.
func saturatedRatio(b *testing.B, e *runtime.Executor, o runtime.Options, whole *wholeSession) float64 {
	b.Helper()
	const turn = 100 * time.Millisecond
	var through, direct []time.Duration
	for range 2 * rounds {
		r := saturate(b, e, o, 1, turn)
		for _, rec := range r.Log.Records {
			if rec.Kind == sched.Ended && rec.Outcome != sched.Dropped {
				through = append(through, rec.At-rec.Start)
			}
		}
		for begin := time.Now(); time.Since(begin) < turn; {
			direct = append(direct, whole.run(o.Realtime))
		}
	}
	slices.Sort(through)
	slices.Sort(direct)
	return float64(through[len(through)/2]) / float64(direct[len(direct)/2])
}

// wholeSession is a model in an ordinary session, run on a thread pinned to core 0.
type wholeSession struct {
	tensors []*runtime.Tensor
	ask     chan int
	took    chan time.Duration
}

func newWholeSession(b *testing.B, n *runtime.Network, in []*runtime.Tensor) *wholeSession {
	b.Helper()
	dir := b.TempDir()
	testkit.OK(b, n.Model.WriteFile(dir+"/m.onnx"))
	s := testkit.Must(ort.NewSessionFromFile(dir+"/m.onnx", nil, nil, ort.Config{Threads: 1}))(b)
	var ins, outs []ort.Value
	for _, t := range in {
		v := testkit.Must(ort.NewTensor(t.Type, t.Shape, t.Data))(b)
		ins = append(ins, v)
	}
	w := &wholeSession{ask: make(chan int), took: make(chan time.Duration)}
	for _, info := range n.Model.Outputs() {
		data := make([]byte, info.Bytes())
		v := testkit.Must(ort.NewTensor(info.Type, info.Shape, data))(b)
		outs = append(outs, v)
		t := testkit.Must(runtime.NewTensor(info, data))(b)
		w.tensors = append(w.tensors, t)
	}
	go func() {
		goruntime.LockOSThread()
		runtime.Pin([]int{0})
		fifo := false
		for priority := range w.ask {
			if priority > 0 && !fifo {
				fifo = runtime.Realtime(priority) == nil
			}
			start := time.Now()
			if err := s.Run(ins, outs); err != nil {
				b.Error(err)
			}
			w.took <- time.Since(start)
		}
		s.Close()
	}()
	return w
}

func (w *wholeSession) run(priority int) time.Duration {
	w.ask <- priority
	return <-w.took
}

func (w *wholeSession) close() { close(w.ask) }

// BenchmarkTwoAccelerators saturates two accelerators with several models and reports the layers they get done against
// what each gets done alone, corrected by how much two bare sessions on the same cores slow each other down. Under fcfs
// requests move between the cores, whose caches then lack their tensors; under fcfs-model they stay where they started.
func BenchmarkTwoAccelerators(b *testing.B) {
	for _, policy := range []string{"fcfs-model", "fcfs"} {
		b.Run(policy, func(b *testing.B) { twoAccelerators(b, policy) })
	}
}

func twoAccelerators(b *testing.B, policy string) {
	nets := []string{"ds_cnn_kws", "glyph_mobile", "glyph_resnet", "glyph_vgg"}
	benchmarkEach(b, func(b *testing.B, o runtime.Options) {
		o.Policy = policy
		accs := pinned(b, 2)
		_, both := loaded(b, accs, "block", nets...)
		var alone []*runtime.Executor
		for k := range 2 {
			_, e := loaded(b, accs[k:k+1], "block", nets...)
			alone = append(alone, e)
		}
		var ratios, busy []float64
		const length = 400 * time.Millisecond
		for range rounds {
			// Layers differ in length and the two runs in which ones they get
			// done: each counts with what it takes on average alone.
			solo, sum := map[[3]int32]time.Duration{}, 0.0
			for k := range 2 {
				r := saturate(b, alone[k], o, len(nets), length)
				done, total := means(r, int32(k))
				maps.Copy(solo, done)
				sum += total
			}
			r := saturate(b, both, o, len(nets), length)
			busy = append(busy, (r.Stats.Accelerators[0].Busy+r.Stats.Accelerators[1].Busy).Seconds()/r.Stats.At.Seconds()/2)
			together := 0.0
			for _, rec := range r.Log.Records {
				if rec.Kind == sched.Completed {
					together += solo[[3]int32{rec.Model, rec.Layer, rec.Accelerator}].Seconds() / r.Stats.At.Seconds()
				}
			}
			ratios = append(ratios, together/(sum*interference(b, accs, nets, o.Realtime, length)))
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "x-corrected-sum")
		b.ReportMetric(ratios[0], "x-least")
		slices.Sort(busy)
		b.ReportMetric(busy[len(busy)/2], "busy")
	})
}

// means are the mean durations of the layers of a run on one accelerator, which
// are counted as those of accelerator k, and the share of the time that it ran.
func means(r *runtime.Result, k int32) (mean map[[3]int32]time.Duration, busy float64) {
	mean, n := map[[3]int32]time.Duration{}, map[[3]int32]time.Duration{}
	for _, rec := range r.Log.Records {
		if rec.Kind == sched.Completed {
			key := [3]int32{rec.Model, rec.Layer, k}
			mean[key] += rec.At - rec.Start
			n[key]++
			busy += (rec.At - rec.Start).Seconds() / r.Stats.At.Seconds()
		}
	}
	for key := range mean {
		mean[key] /= n[key]
	}
	return mean, busy
}

// interference is the rate of two threads that run layers without an executor
// at the same time, as a share of the sum of their rates alone.
func interference(b *testing.B, accs []runtime.Accelerator, nets []string, priority int, length time.Duration) float64 {
	b.Helper()
	var programs []*runtime.Program
	for _, n := range nets {
		p := testkit.Must(runtime.Prepare(rig.Network(b, n, "block"), accs, nil))(b)
		defer p.Close()
		programs = append(programs, p)
	}
	rate := func(k int) (perSecond float64) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			goruntime.LockOSThread()
			runtime.Pin(accs[k].Cores())
			if priority > 0 {
				runtime.Realtime(priority)
			}
			var slots []*runtime.Slot
			for _, p := range programs {
				s, err := p.NewSlot()
				if err != nil {
					b.Error(err)
					return
				}
				defer s.Close()
				in, _ := p.Network.Inputs(1)
				s.SetInputs(in)
				slots = append(slots, s)
			}
			layers, begin := 0, time.Now()
			for time.Since(begin) < length {
				for m, p := range programs {
					for l := range p.Network.Layers {
						slots[m].Run(l, 0, k)
						layers++
					}
				}
			}
			perSecond = float64(layers) / time.Since(begin).Seconds()
		}()
		<-done
		return perSecond
	}
	sum := rate(0) + rate(1)
	var together [2]float64
	var wg sync.WaitGroup
	for k := range 2 {
		wg.Go(func() { together[k] = rate(k) })
	}
	wg.Wait()
	return (together[0] + together[1]) / sum
}

// BenchmarkReleaseLag is how late releases are noticed while one accelerator is
// busy 70 % of the time and a core is free.
func BenchmarkReleaseLag(b *testing.B) {
	accs := pinned(b, 2)[:1]
	_, e := loaded(b, accs, "block", "ds_cnn_kws", "glyph_resnet")
	benchmarkEach(b, func(b *testing.B, o runtime.Options) {
		o.Policy, o.FreeCore = "edf", true
		o.Traffic = traffic.Config{Rates: []float64{400, 400}, Process: traffic.Poisson, Duration: time.Second}
		var p50, p99, idle []float64
		for n := range rounds {
			o.Traffic.Seed = uint64(n)
			r := testkit.Must(e.Run(context.Background(), o))(b)
			m := r.Log.Metrics()
			p50, p99, idle = append(p50, m.ReleaseLagP50US), append(p99, m.ReleaseLagP99US), append(idle, m.IdleLagP99US)
		}
		for _, x := range [][]float64{p50, p99, idle} {
			slices.Sort(x)
		}
		b.ReportMetric(p50[len(p50)/2], "lag-p50-us")
		b.ReportMetric(p99[len(p99)/2], "lag-p99-us")
		b.ReportMetric(idle[len(idle)/2], "idle-lag-p99-us")
	})
}

// BenchmarkWake is the latency of a network of three microseconds submitted
// from another thread right after the one before: to a worker that still spins
// on a core that it has to itself, and to one that sleeps at once since it has none.
func BenchmarkWake(b *testing.B) {
	for _, c := range []struct {
		name  string
		cores []int
	}{{"spins", []int{0}}, {"sleeps", nil}} {
		b.Run(c.name, func(b *testing.B) {
			x := &bench{accs: rig.Accelerators(b, runtime.Spec{Name: "a", Optimization: "basic", Cores: c.cores})}
			x.add(b, tiny(b, "tiny"))
			e := x.executor(b, x.system(alternate))
			testkit.OK(b, e.Serve(runtime.Options{Policy: "fcfs", Quiet: true}))
			out := testkit.Must(runtime.NewTensor(x.networks[0].Model.Outputs()[0], make([]byte, 32)))(b)
			defer out.Close()
			into := runtime.RequestOptions{Outputs: byName(b, []*runtime.Tensor{out})}
			for range max(b.N, 3000) {
				p := testkit.Must(e.Submit(context.Background(), "tiny", nil, into))(b)
				<-p.Done()
			}
			h := &e.Stop(context.Background()).Stats.Models[0].Latency
			b.ReportMetric(float64(h.Quantile(.5)), "latency-p50-ns")
			b.ReportMetric(float64(h.Quantile(.99)), "latency-p99-ns")
		})
	}
}
