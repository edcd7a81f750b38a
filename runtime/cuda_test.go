package runtime_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// fakeCUDA compiles the library that stands in for the CUDA runtime. Its devices' memory is the host's, so that the CPU
// provider computes there; work is done when it is submitted.
func fakeCUDA(t *testing.T) string {
	t.Helper()
	if goruntime.GOOS != "linux" {
		t.Skip("the CUDA runtime is called on Linux only")
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("there is no C compiler")
	}
	lib := filepath.Join(t.TempDir(), "libfake.so")
	source := filepath.Join("..", "internal", "cuda", "testdata", "fake.c")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("FAKE_CUDA_EAGER", "1")
	return lib
}

// streamsOf opens streams of one device that computes by the CPU provider.
func streamsOf(t *testing.T, n int) (accs []runtime.Accelerator) {
	t.Helper()
	orttest.Start(t)
	lib := fakeCUDA(t)
	var d runtime.Devices
	for i := range n {
		s := runtime.Spec{Name: fmt.Sprint("gpu.", i), Of: "gpu", Stream: i, Optimization: "basic"}
		a := testkit.Must(d.OpenStream(s, lib))(t)
		t.Cleanup(func() { testkit.OK(t, a.Close()) })
		accs = append(accs, a)
	}
	return accs
}

func deviceUse(a runtime.Accelerator) runtime.DeviceUse {
	return a.(interface{ DeviceUse() runtime.DeviceUse }).DeviceUse()
}

// Whatever streams and processors the layers of a request run on, the outputs are the whole model's.
func TestAnySequenceOfStreams(t *testing.T) {
	b := &bench{accs: append(streamsOf(t, 2), rig.Accelerators(t, levels...)...)}
	b.add(t, network(t, "block"))
	n, p := b.networks[0], b.programs[0]
	in := testkit.Must(n.Inputs(3))(t)
	want := testkit.Must(n.Reference([][]*runtime.Tensor{in}))(t)
	slot := testkit.Must(p.NewSlot())(t)
	defer slot.Close()
	rng := rand.New(rand.NewPCG(6, 7))
	for range 40 {
		at := make([]int, len(n.Layers))
		slot.SetInputs(in)
		for l := range at {
			at[l] = rng.IntN(len(b.accs))
			testkit.OK(t, slot.Run(l, 0, at[l]))
		}
		testkit.OK(t, slot.Wait())
		for i, out := range slot.Outputs() {
			c := testkit.Must(models.Compare(out.Type, out.Data, want[0][i]))(t)
			if !(c.MaxRel <= runtime.Tolerance) {
				t.Fatalf("%v: output %d differs by %g of its largest magnitude", at, i, c.MaxRel)
			}
		}
	}
}

// Requests of a run move between streams and processors, and every output is right.
func TestRunOnStreams(t *testing.T) {
	b := &bench{accs: append(streamsOf(t, 2), rig.Accelerators(t, levels...)...)}
	b.add(t, network(t, "block"))
	sys := b.system(alternate)
	sys.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Lead: 50 * time.Microsecond}}
	tables := testkit.Must(sched.Compile(sys))(t)
	e := testkit.Must(runtime.NewExecutor(tables, b.programs, 1))(t)
	defer e.Close(context.Background())
	r, err := e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 8, Queue: 1000})
	testkit.OK(t, err)
	if m := check(t, r); m.Utilization["gpu.0"] == 0 || m.Utilization["gpu.1"] == 0 || m.Utilization["basic"] == 0 {
		t.Errorf("%+v", m.Utilization)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Verified != 8 {
		t.Errorf("%+v %v", v, err)
	}
	if len(r.Devices) != 1 || len(r.Devices[0].Uncaptured) != len(b.networks[0].Layers) {
		t.Errorf("the CPU provider's layers on the device were captured: %+v", r.Devices)
	}
}

// Streams have the weights of a layer once, and give them back.
func TestWeightsOfStreams(t *testing.T) {
	accs := streamsOf(t, 3)
	n := network(t, "block")
	before := deviceUse(accs[0])
	if before != (runtime.DeviceUse{}) {
		t.Errorf("a device that nothing was loaded on: %+v", before)
	}
	one := testkit.Must(runtime.Prepare(n, accs[:1], nil))(t)
	first := deviceUse(accs[0])
	all := testkit.Must(runtime.Prepare(n, accs, nil))(t)
	if got := deviceUse(accs[2]); got.Weights != first.Weights || got.Weights < 50_000 {
		t.Errorf("one stream has %d bytes of weights, three have %d", first.Weights, got.Weights)
	}
	one.Close()
	if got := deviceUse(accs[1]); got.Weights != first.Weights {
		t.Errorf("%d bytes of weights are left, others need %d", got.Weights, first.Weights)
	}
	slot := testkit.Must(all.NewSlot())(t)
	in := testkit.Must(n.Inputs(1))(t)
	slot.SetInputs(in)
	testkit.OK(t, slot.Run(0, 0, 1))
	if got := deviceUse(accs[0]); got.Buffers == 0 || got.All != got.Weights+got.Buffers {
		t.Errorf("with a request: %+v", got)
	}
	slot.Close()
	all.Close()
	if got := deviceUse(accs[0]); got != before {
		t.Errorf("%+v is left when all is closed", got)
	}
}

// A layer that cannot be optimised once for all streams has its own weights in each, and somebody says so.
func TestWeightsApart(t *testing.T) {
	accs := streamsOf(t, 2)
	n := network(t, "model")
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "gone"))
	p := testkit.Must(runtime.Prepare(n, accs, nil))(t)
	defer p.Close()
	if got := deviceUse(accs[0]); got.Weights != 0 {
		t.Errorf("%+v", got)
	}
	for i, a := range accs {
		notes := strings.Join(a.(interface{ Notes() []string }).Notes(), "; ")
		said := strings.Contains(notes, "gpu: 2 sessions do not share their weights with other streams: ")
		if said != (i == 0) {
			t.Errorf("%s notes %q", a.Name(), notes)
		}
	}
}

// four is a tensor of four numbers.
func four(name string) models.Tensor {
	return models.Tensor{Name: name, Type: ort.Float, Shape: []int64{4}}
}

// onDevice is a tensor in the memory of an accelerator.
func onDevice(t *testing.T, a runtime.Accelerator, info models.Tensor) *runtime.Tensor {
	t.Helper()
	x := &runtime.Tensor{Tensor: info}
	b := testkit.Must(a.(interface{ Memory() runtime.Memory }).Memory().NewBuffer(int(x.Bytes())))(t)
	testkit.OK(t, b.Bind(x))
	t.Cleanup(func() {
		x.Close()
		b.Close()
	})
	return x
}

// A graph that replays what was captured is taken; it runs on its own tensors only.
func TestCapture(t *testing.T) {
	a := streamsOf(t, 1)[0]
	m := a.(interface{ Memory() runtime.Memory }).Memory()
	x, y, z := onDevice(t, a, four("x")), onDevice(t, a, four("y")), onDevice(t, a, four("z"))
	in, out := []*runtime.Tensor{x}, []*runtime.Tensor{y}
	runtime.Put(x, ort.Data([]float32{1, 2, 3, 4}))
	k := testkit.Must(runtime.CaptureOn(a, in, out, func() error { return m.Copy(x, y) }))(t)
	for _, v := range [][]float32{{5, 6, 7, 8}, {1, 1, 1, 1}} {
		runtime.Put(x, ort.Data(v))
		testkit.OK(t, k.Run(in, out))
		if got := string(read(t, m, y)); got != string(ort.Data(v)) {
			t.Errorf("%v: the replay leaves % x", v, got)
		}
	}
	testkit.Fails(t, k.Run(in, []*runtime.Tensor{z}), "copy: a graph runs on the tensors that it was captured with")
	testkit.OK(t, k.Close())
}

// What computes anything but on the stream is not replayed, and leaves what it has computed.
func TestUncaptured(t *testing.T) {
	a := streamsOf(t, 1)[0]
	m := a.(interface{ Memory() runtime.Memory }).Memory()
	x, y := onDevice(t, a, four("x")), onDevice(t, a, four("y"))
	in, out := []*runtime.Tensor{x}, []*runtime.Tensor{y}
	data := ort.Data([]float32{1, 2, 3, 4})
	host := testkit.Must(runtime.NewTensor(x.Tensor, data))(t)
	defer host.Close()
	for _, c := range []struct {
		name string
		run  func() error
		says string
	}{
		{"computed by the host", func() error { runtime.Put(y, data); return m.Copy(y, x) },
			"cannot be captured: a replay computes another y"},
		{"nothing on the stream", func() error { runtime.Put(y, data); return nil },
			"cannot be captured: it does nothing on the stream"},
		{"from the host", func() error { return m.Copy(host, y) }, "cannot be captured: it copies from the host's memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := runtime.CaptureOn(a, in, out, c.run)
			testkit.Fails(t, err, runtime.ErrUncaptured, c.says)
			if got := string(read(t, m, y)); got != string(data) {
				t.Errorf("the output is % x", got)
			}
		})
	}
}

// The kernels of a device's layers can be captured; those of the CPU provider, which submits nothing, are refused.
func TestCaptureOfALayer(t *testing.T) {
	a := streamsOf(t, 1)[0]
	n := network(t, "block")
	u := runtime.Unit{Name: "first", ONNX: testkit.Must(n.Layers[0].ONNX())(t), Inputs: n.Layers[0].Inputs,
		Outputs: n.Layers[0].Outputs}
	k := testkit.Must(a.Prepare(u))(t)
	defer k.Close()
	tensors := func(of []models.Tensor) (list []*runtime.Tensor) {
		for _, x := range of {
			list = append(list, onDevice(t, a, x))
		}
		return list
	}
	in, out := tensors(u.Inputs), tensors(u.Outputs)
	_, err := k.(runtime.Capturer).Capture(in, out)
	testkit.Fails(t, err, runtime.ErrUncaptured, "cannot be captured: it does nothing on the stream")
	if known, waits := runtime.Waits(k); !known || waits == nil {
		t.Errorf("nobody looked at what the kernel submits: %v %v", known, waits)
	}
	testkit.OK(t, k.Run(in, out))
	host := testkit.Must(runtime.NewTensor(in[0].Tensor, make([]byte, in[0].Bytes())))(t)
	defer host.Close()
	_, err = k.(runtime.Capturer).Capture([]*runtime.Tensor{host}, out)
	testkit.Fails(t, err, runtime.ErrUncaptured, "tensor "+host.Name+" is in host memory")
}

// A session is not closed while the provider holds memory that it could not free then: on a device that is lost, and
// after a run that has failed.
func TestSessionsThatStayOpen(t *testing.T) {
	a := streamsOf(t, 1)[0]
	n := network(t, "block")
	u := runtime.Unit{Name: "first", ONNX: testkit.Must(n.Layers[0].ONNX())(t), Inputs: n.Layers[0].Inputs,
		Outputs: n.Layers[0].Outputs}
	k := testkit.Must(a.Prepare(u))(t)
	in, out := []*runtime.Tensor{onDevice(t, a, u.Inputs[0])}, []*runtime.Tensor{onDevice(t, a, u.Outputs[0])}
	odd := []*runtime.Tensor{onDevice(t, a, four("odd"))}
	t.Setenv("FAKE_CUDA_LOST", "1")
	testkit.Fails(t, k.Close(), "waiting for a stream: unspecified failure (error 719)")
	testkit.OK(t, os.Unsetenv("FAKE_CUDA_LOST"))
	testkit.OK(t, k.Run(in, out))
	testkit.Fails(t, k.Run(odd, out), "first")
	testkit.Fails(t, k.Close(), "first: its last run failed: the session stays open")
	_, err := k.(runtime.Capturer).Capture(in, out)
	testkit.Fails(t, err, runtime.ErrUncaptured)
	testkit.OK(t, k.Close())
	testkit.Fails(t, k.Run(in, out), "the session is closed")
}

func TestFullDevice(t *testing.T) {
	a := streamsOf(t, 1)[0]
	m := a.(interface{ Memory() runtime.Memory }).Memory()
	t.Setenv("FAKE_CUDA_MEMORY", "1000000")
	if free, total, err := m.Room(); err != nil || free != total || total != 1000000 {
		t.Errorf("%d of %d free: %v", free, total, err)
	}
	testkit.Refused(m.NewBuffer(2000000))(t, runtime.ErrNoRoom, "allocating 2000000 bytes on device 0: out of memory")
	testkit.OK(t, m.Wait())
}

// Events of a device order its streams; those of others are refused.
func TestEventsOfStreams(t *testing.T) {
	accs := streamsOf(t, 2)
	one := accs[0].(interface{ Memory() runtime.Memory }).Memory()
	two := accs[1].(interface{ Memory() runtime.Memory }).Memory()
	if one.Device() != "gpu" || two.Device() != "gpu" || one.Queue() != "" || one.Grain() != 1 {
		t.Errorf("%q %q %q %d", one.Device(), two.Device(), one.Queue(), one.Grain())
	}
	before, after := testkit.Must(one.NewEvent())(t), testkit.Must(two.NewEvent())(t)
	defer before.Close()
	defer after.Close()
	testkit.OK(t, before.Record())
	testkit.OK(t, two.After(before))
	testkit.OK(t, after.Record())
	testkit.OK(t, after.Wait())
	if done, err := after.Done(); !done || err != nil {
		t.Errorf("%v %v", done, err)
	}
	if d, err := after.Since(before); d <= 0 || err != nil {
		t.Errorf("%v between the events, %v", d, err)
	}
	testkit.Fails(t, two.After(struct{ runtime.Event }{before}), "gpu.1 waits for an event of something else")
}

// Streams of a device are on one CUDA device, and the device is closed with the last of them.
func TestOpenStreams(t *testing.T) {
	orttest.Start(t)
	lib := fakeCUDA(t)
	var d runtime.Devices
	spec := func(stream int, id string) runtime.Spec {
		return runtime.Spec{Name: fmt.Sprint("gpu.", stream), Of: "gpu", Provider: "cuda",
			Options: map[string]string{"device_id": id, "enable_cuda_graph": "1"}}
	}
	a := testkit.Must(d.OpenStream(spec(0, "1"), lib))(t)
	testkit.Refused(d.OpenStream(spec(1, "0"), lib))(t, "streams of gpu are on CUDA devices 1 and 0")
	notes := a.(interface{ Notes() []string }).Notes()
	if len(notes) != 1 || !strings.Contains(notes[0], "enable_cuda_graph is not used") {
		t.Errorf("notes: %q", notes)
	}
	testkit.OK(t, a.Close())
	b := testkit.Must(d.OpenStream(spec(1, "0"), lib))(t)
	testkit.OK(t, b.Close())
	testkit.Refused(d.OpenStream(spec(1, "2"), lib))(t, "no CUDA device 2: there are 2")
	testkit.Refused(d.OpenStream(spec(1, "0"), filepath.Join(t.TempDir(), "gone.so")))(t, "no CUDA runtime")
}

// read is what is in a tensor of a device.
func read(t *testing.T, m runtime.Memory, x *runtime.Tensor) []byte {
	t.Helper()
	host := testkit.Must(runtime.NewTensor(x.Tensor, make([]byte, x.Bytes())))(t)
	defer host.Close()
	testkit.OK(t, m.Copy(x, host))
	testkit.OK(t, m.Wait())
	return host.Data
}
