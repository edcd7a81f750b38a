package runtime_test

import (
	"cmp"
	"errors"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// layerChain is a network's layers on one stream, with tensors of its own there.
type layerChain struct {
	a       runtime.Accelerator
	m       runtime.Memory
	n       *runtime.Network
	tensors map[string]*runtime.Tensor
	buffers []runtime.Buffer
	kernels []runtime.Kernel // plain
	graphs  []runtime.Kernel // captured, or plain where that cannot be
	in, out [][]*runtime.Tensor
	refused []string
}

func newLayerChain(a runtime.Accelerator, n *runtime.Network) (c *layerChain, err error) {
	c = &layerChain{a: a, m: a.(interface{ Memory() runtime.Memory }).Memory(), n: n,
		tensors: map[string]*runtime.Tensor{}}
	forms, err := n.Model.Forms(n.Layers, models.Portable)
	if err != nil {
		return c, err
	}
	for l, f := range forms {
		data, err := f.ONNX()
		if err != nil {
			return c, err
		}
		k, err := a.Prepare(runtime.Unit{Name: n.Layers[l].Name, ONNX: data, Inputs: f.Inputs, Outputs: f.Outputs,
			Optimized: f.Optimized})
		if err != nil {
			return c, err
		}
		c.kernels = append(c.kernels, k)
		for at, list := range [][]models.Tensor{f.Inputs, f.Outputs} {
			var ts []*runtime.Tensor
			for _, info := range list {
				t, err := c.tensor(info)
				if err != nil {
					return c, err
				}
				ts = append(ts, t)
			}
			if at == 0 {
				c.in = append(c.in, ts)
			} else {
				c.out = append(c.out, ts)
			}
		}
	}
	return c, nil
}

func (c *layerChain) tensor(info models.Tensor) (*runtime.Tensor, error) {
	if t := c.tensors[info.ID()]; t != nil {
		return t, nil
	}
	b, err := c.m.NewBuffer(int(info.Bytes()))
	if err != nil {
		return nil, err
	}
	t := &runtime.Tensor{Tensor: info}
	c.buffers, c.tensors[info.ID()] = append(c.buffers, b), t
	return t, b.Bind(t)
}

func (c *layerChain) close() error {
	var err error
	for i, k := range c.graphs {
		if k != c.kernels[i] {
			err = errors.Join(err, k.Close())
		}
	}
	for _, k := range c.kernels {
		err = errors.Join(err, k.Close())
	}
	for _, t := range c.tensors {
		t.Close()
	}
	for _, b := range c.buffers {
		b.Close()
	}
	return err
}

// submit submits all layers, and waits after each where that is asked for.
func (c *layerChain) submit(kernels []runtime.Kernel, wait func() error) error {
	for l, k := range kernels {
		if err := k.Run(c.in[l], c.out[l]); err != nil {
			return err
		}
		if wait != nil {
			if err := wait(); err != nil {
				return err
			}
		}
	}
	return nil
}

// capture captures every layer that can be.
func (c *layerChain) capture() error {
	for l, k := range c.kernels {
		g := k
		if able, is := k.(runtime.Capturer); is {
			made, err := able.Capture(c.in[l], c.out[l])
			switch {
			case err == nil:
				g = made
			case errors.Is(err, runtime.ErrUncaptured):
				c.refused = append(c.refused, c.n.Layers[l].Name+": "+err.Error())
			default:
				return err
			}
		}
		c.graphs = append(c.graphs, g)
	}
	return nil
}

// judge computes with some inputs and holds the outputs against the whole model's.
func (c *layerChain) judge(kernels []runtime.Kernel, seed uint64) error {
	in, err := c.n.Inputs(seed)
	if err != nil {
		return err
	}
	want, err := c.n.Reference([][]*runtime.Tensor{in})
	if err != nil {
		return err
	}
	for _, t := range in {
		defer t.Close()
		if err := c.m.Copy(t, c.tensors[t.ID()]); err != nil {
			return err
		}
	}
	if err := errors.Join(c.submit(kernels, nil), c.m.Wait()); err != nil {
		return err
	}
	for i, info := range c.n.Model.Outputs() {
		host, err := runtime.NewTensor(info, make([]byte, info.Bytes()))
		if err != nil {
			return err
		}
		defer host.Close()
		if err := errors.Join(c.m.Copy(c.tensors[info.ID()], host), c.m.Wait()); err != nil {
			return err
		}
		d, err := models.Compare(info.Type, host.Data, want[0][i])
		if err != nil {
			return err
		}
		if !(d.MaxRel <= runtime.Tolerance) {
			return errors.New("the outputs are not the whole model's")
		}
	}
	return nil
}

// time says how long a chain takes, and its submission.
func (c *layerChain) time(t *testing.T, way string, kernels []runtime.Kernel, runs int, wait func() error) {
	t.Helper()
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	var took, submitted []time.Duration
	for range runs {
		start := time.Now()
		testkit.OK(t, c.submit(kernels, wait))
		submitted = append(submitted, time.Since(start))
		testkit.OK(t, c.m.Wait())
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	slices.Sort(submitted)
	t.Logf("%s: chain, %s: %v, submitted in %v (medians of %d)", c.n.Name, way, took[runs/2], submitted[runs/2], runs)
}

// recorded records one of a few events.
func recorded(make func() (runtime.Event, error)) func() error {
	var events [4]runtime.Event
	var errs [4]error
	for i := range events {
		events[i], errs[i] = make()
	}
	n, err := 0, errors.Join(errs[:]...)
	return func() error {
		n++
		return cmp.Or(err, events[n%4].Record())
	}
}

// polled waits for an event that it polls.
func polled(make func() (runtime.Event, error)) func() error {
	e, err := make()
	return func() error {
		if err = errors.Join(err, e.Record()); err != nil {
			return err
		}
		for {
			if done, err := e.Done(); done || err != nil {
				return err
			}
		}
	}
}

// Layers on two streams at once, plain and captured, compute what the whole model does. On a GPU it also says what a
// chain takes and what memory is used: GPU_NETWORKS lists the networks, GPU_STREAMS is how many streams there are,
// GPU_OPTIONS are the provider's, as key=value.
func TestChainsOnStreams(t *testing.T) {
	t.Run("pretended", func(t *testing.T) { chainsOnStreams(t, streamsOf(t, 1), []string{"ds_cnn_kws"}, 3) })
	t.Run("cuda", func(t *testing.T) {
		orttest.CUDA(t)
		var d runtime.Devices
		var accs []runtime.Accelerator
		streams, err := strconv.Atoi(cmp.Or(os.Getenv("GPU_STREAMS"), "2"))
		testkit.OK(t, err)
		spec := runtime.Spec{Name: "gpu", Provider: "cuda", Options: map[string]string{}}
		for _, o := range strings.Fields(os.Getenv("GPU_OPTIONS")) {
			key, value, _ := strings.Cut(o, "=")
			spec.Options[key] = value
		}
		for _, s := range spec.Streams(streams) {
			a := testkit.Must(d.Open(s))(t)
			t.Cleanup(func() { testkit.OK(t, a.Close()) })
			accs = append(accs, a)
		}
		names := strings.Fields(os.Getenv("GPU_NETWORKS"))
		if len(names) == 0 {
			names = []string{"ds_cnn_kws", "glyph_resnet", "mobilenetv2"}
		}
		chainsOnStreams(t, accs, names, 200)
	})
}

func chainsOnStreams(t *testing.T, accs []runtime.Accelerator, names []string, runs int) {
	for _, name := range names {
		n := rig.Network(t, name, "block")
		t.Logf("%s: %d layers; memory at first %+v", name, len(n.Layers), deviceUse(accs[0]))
		chains := make([]*layerChain, len(accs))
		for i, a := range accs {
			var err error
			chains[i], err = newLayerChain(a, n)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { testkit.OK(t, chains[i].close()) }()
			t.Logf("%s: with %s loaded %+v", name, a.Name(), deviceUse(a))
		}
		errs := make([]error, len(accs))
		together := func(f func(i int, c *layerChain) error) {
			var all sync.WaitGroup
			for i, c := range chains {
				all.Go(func() {
					goruntime.LockOSThread()
					errs[i] = f(i, c)
				})
			}
			all.Wait()
			testkit.OK(t, errors.Join(errs...))
		}
		start := time.Now()
		together(func(i int, c *layerChain) error { return c.judge(c.kernels, uint64(i)) })
		t.Logf("%s: first runs took %v; %+v", name, time.Since(start), deviceUse(accs[0]))
		together(func(i int, c *layerChain) error { return c.judge(c.kernels, uint64(i+5)) })
		chains[0].time(t, "plain, one wait, before anything is captured", chains[0].kernels, runs, nil)
		start = time.Now()
		for _, c := range chains {
			testkit.OK(t, c.capture())
			t.Logf("%s: not captured: %q", name, c.refused)
		}
		t.Logf("%s: capturing took %v; %+v", name, time.Since(start), deviceUse(accs[0]))
		together(func(i int, c *layerChain) error {
			for seed := range uint64(5) {
				if err := c.judge(c.graphs, uint64(i)+seed); err != nil {
					return err
				}
			}
			return nil
		})
		c := chains[0]
		c.time(t, "plain, one wait", c.kernels, runs, nil)
		c.time(t, "captured, one wait", c.graphs, runs, nil)
		c.time(t, "captured, wait for each", c.graphs, runs, c.m.Wait)
		mark := c.m.(interface{ NewMark() (runtime.Event, error) }).NewMark
		c.time(t, "captured, timed event recorded for each, one wait", c.graphs, runs, recorded(c.m.NewEvent))
		c.time(t, "captured, mark recorded for each, one wait", c.graphs, runs, recorded(mark))
		c.time(t, "captured, timed event polled for each", c.graphs, runs, polled(c.m.NewEvent))
		c.time(t, "captured, mark polled for each", c.graphs, runs, polled(mark))
	}
}
