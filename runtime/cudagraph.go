package runtime

import (
	"errors"
	"fmt"
	"slices"

	"github.com/terastal/terastal/internal/cuda"
	"github.com/terastal/terastal/models"
)

// capturable is a kernel that can become a graph.
type capturable struct{ *cudaKernel }

// Capture runs the kernel, captures it, and holds a replay against what the run computed: what a kernel submits
// elsewhere than to the stream, or does on the host, a replay leaves out.
func (k *capturable) Capture(in, out []*Tensor) (Kernel, error) {
	for _, ts := range [][]*Tensor{in, out} {
		for _, t := range ts {
			if _, there := t.Handle.(*cudaBuffer); !there {
				return nil, fmt.Errorf("%w: tensor %s is in host memory", ErrUncaptured, t.Name)
			}
		}
	}
	for !k.known {
		if err := k.Run(in, out); err != nil {
			return nil, err
		}
	}
	d := k.accelerator.gpu
	before := d.room()
	// Where a kernel waits for a reason that has passed, such as memory that it had still to allocate, it no longer does.
	graph, err := k.accelerator.capture(in, out, func() error { return k.Run(in, out) },
		func() error { return k.submit(in, out) })
	if k.waits != nil && err != nil {
		k.holds = true
		return nil, errors.Join(err, k.complete(in, out))
	}
	if err != nil {
		return nil, err
	}
	k.waits = nil
	took := max(0, before-d.room())
	d.add(&d.use.Graphs, took)
	return &captured{k.cudaKernel, graph, took, slices.Clone(in), slices.Clone(out)}, nil
}

// capture makes a graph of what submit submits, which run computes.
func (a *cudaAccelerator) capture(in, out []*Tensor, run, submit func() error) (*cuda.Graph, error) {
	m := cudaMemory{a}
	if err := run(); err != nil {
		return nil, noRoom(err)
	}
	want, err := a.read(out)
	if err != nil {
		return nil, err
	}
	graph, err := a.stream.Capture(submit)
	if err != nil {
		if errors.Is(err, cuda.ErrUncaptured) {
			return nil, fmt.Errorf("%w: %w", ErrUncaptured, noRoom(err))
		}
		return nil, noRoom(err)
	}
	if err = a.replays(graph, out, want); err == nil {
		return graph, nil
	}
	// Layers behind this one are captured with what it computes.
	for i, t := range out {
		host := &Tensor{Tensor: t.Tensor, Data: want[i]}
		err = errors.Join(err, m.Copy(host, t))
	}
	return nil, errors.Join(err, a.stream.Wait(), graph.Close())
}

// unwritten is what outputs are filled with to see what a replay writes: as floats they are not numbers.
const unwritten = 0xff

// replays checks that a graph computes what was computed before.
func (a *cudaAccelerator) replays(g *cuda.Graph, out []*Tensor, want [][]byte) error {
	for _, t := range out {
		b := t.Handle.(*cudaBuffer)
		if err := a.stream.Fill(b.data, unwritten, int(t.Bytes())); err != nil {
			return err
		}
	}
	if err := g.Launch(a.stream); err != nil {
		return noRoom(err)
	}
	got, err := a.read(out)
	if err != nil {
		return err
	}
	for i, t := range out {
		if string(got[i]) == string(want[i]) {
			continue
		}
		if c, err := models.Compare(t.Type, got[i], want[i]); err != nil || !(c.MaxRel <= Tolerance) {
			return fmt.Errorf("%w: a replay computes another %s", ErrUncaptured, t.Name)
		}
	}
	return nil
}

// read is what is in tensors once all that was submitted is complete.
func (a *cudaAccelerator) read(ts []*Tensor) ([][]byte, error) {
	data := make([][]byte, len(ts))
	for i, t := range ts {
		data[i] = make([]byte, t.Bytes())
		if err := (cudaMemory{a}).Copy(t, &Tensor{Tensor: t.Tensor, Data: data[i]}); err != nil {
			return nil, err
		}
	}
	return data, a.stream.Wait()
}

// captured is a kernel as a graph on the tensors that it was captured with.
type captured struct {
	of      *cudaKernel
	graph   *cuda.Graph
	took    int64 // bytes of memory
	in, out []*Tensor
}

var errOtherTensors = errors.New("a graph runs on the tensors that it was captured with")

func (k *captured) Run(in, out []*Tensor) error {
	if !slices.Equal(in, k.in) || !slices.Equal(out, k.out) {
		return fmt.Errorf("%s: %w", k.of.name, errOtherTensors)
	}
	if err := k.graph.Launch(k.of.accelerator.stream); err != nil {
		return fmt.Errorf("%s: %w", k.of.name, noRoom(err))
	}
	return nil
}

func (k *captured) Close() error {
	d := k.of.accelerator.gpu
	d.add(&d.use.Graphs, -k.took)
	k.took = 0
	return k.graph.Close()
}
