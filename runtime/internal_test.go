package runtime

import (
	"maps"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/sched"
)

// Quantiles are at most a bucket above the true ones.
func TestHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(.5) != 0 || h.N() != 0 {
		t.Error("an empty histogram has something")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var all []time.Duration
	for range 20000 {
		d := time.Duration(1) << rng.IntN(36)
		d += time.Duration(rng.Int64N(int64(d)))
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, .1, .5, .9, .99, 1} {
		want := all[min(len(all)-1, int(q*float64(len(all))))]
		if got := h.Quantile(q); got < want || float64(got) > 1.04*float64(want)+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	h.Add(-1)
	h.Add(1 << 50)
	if h.Max() != histogramLargest || h.N() != 20002 {
		t.Errorf("max %v, n %d", h.Max(), h.N())
	}
	var sum Histogram
	sum.Merge(&h)
	sum.Merge(&h)
	if sum.N() != 2*h.N() || sum.Quantile(.5) != h.Quantile(.5) || sum.Sum() != 2*h.Sum() {
		t.Error("merging does not add")
	}
	for b := range histogramBuckets {
		if bucket(uint64(upper(b))) != b || b > 0 && bucket(uint64(upper(b-1)+1)) != b {
			t.Fatalf("bucket %d ends at %v, which is in bucket %d", b, upper(b), bucket(uint64(upper(b))))
		}
	}
}

// The lock excludes, spinning or sleeping.
func TestLock(t *testing.T) {
	var l lock
	var wg sync.WaitGroup
	n := 0
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				l.Lock()
				n++
				if i%500 == 0 {
					sleep(50 * time.Microsecond) // make the others sleep
				}
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if n != 16000 {
		t.Errorf("%d of 16000 were counted", n)
	}
}

// A layer may be run again exactly where no output lies in an input's memory.
func TestIntact(t *testing.T) {
	data := testkit.Must(zoo.Build("glyph_resnet", 1))(t)
	m := testkit.Must(models.Parse("net", data, models.Options{}))(t)
	n := testkit.Must(NewNetwork("net", m, "op"))(t)
	var accs []Accelerator
	for _, level := range []string{"all", "basic"} {
		a := testkit.Must(OpenORT(Spec{Name: level, Optimization: level}))(t)
		accs = append(accs, a)
	}
	p := testkit.Must(Prepare(n, accs, nil))(t)
	defer p.Close()
	overwritten := 0
	for l := range n.Layers {
		for k := range accs {
			overlap := false
			for _, i := range p.cells[l][0][k].in {
				for _, o := range p.cells[l][0][k].out {
					a, b := &p.tensors[i], &p.tensors[o]
					overlap = overlap || a.place >= 0 && a.place < b.place+b.Bytes() && b.place < a.place+a.Bytes()
				}
			}
			if p.intact(&sched.Dispatch{Layer: l, Accelerator: k}) == overlap {
				t.Errorf("layer %d on %s: an output overlaps an input: %v", l, accs[k].Name(), overlap)
			}
			if overlap {
				overwritten++
			}
		}
	}
	if overwritten == 0 {
		t.Error("no layer is computed in place: the test says nothing")
	}
}

// Ordinary sessions are those of a user who chooses a device and nothing else.
func TestOrdinaryConfig(t *testing.T) {
	for _, c := range []struct {
		spec  Spec
		want  map[string]string
		place Place
	}{
		{Spec{Name: "c", Threads: 1, Optimization: "basic"}, nil, Place{"cpu", Tolerance, false}},
		{Spec{Provider: "CUDA", Options: map[string]string{"use_tf32": "0", "enable_cuda_graph": "1"}},
			map[string]string{"use_tf32": "1"}, Place{"cuda", 1e-2, true}},
		{Spec{Provider: "cuda", Options: map[string]string{"device_id": "1"}},
			map[string]string{"use_tf32": "1", "device_id": "1"}, Place{"cuda 1", 1e-2, true}},
		{Spec{Provider: "openvino", Options: map[string]string{"device_type": "GPU"}},
			map[string]string{"device_type": "GPU"}, Place{"openvino", Tolerance, true}},
	} {
		o := opened{spec: c.spec}
		got := c.spec.ordinary()
		if !maps.Equal(got.Options, c.want) || o.Place() != c.place || !got.AllowFallback || got.Optimization != "" ||
			got.Threads != goruntime.NumCPU() {
			t.Errorf("%+v: %+v in %+v", c.spec, got, o.Place())
		}
	}
}
