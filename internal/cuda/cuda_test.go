package cuda

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/terastal/terastal/internal/testkit"
)

// fake compiles a library that stands in for the CUDA runtime. Each test has one of its own.
func fake(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the CUDA runtime is called on Linux only")
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("there is no C compiler")
	}
	lib := filepath.Join(t.TempDir(), "libfake.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib,
		filepath.Join("testdata", "fake.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

// rig is a device with a stream, and four buffers of it and of pinned memory.
type rig struct {
	*Device
	s      *Stream
	device [4]unsafe.Pointer
	host   [4][]byte
}

const size = 8

func open(t *testing.T) *rig {
	t.Helper()
	l := testkit.Must(Load(fake(t)))(t)
	r := &rig{Device: testkit.Must(l.Device(1))(t)}
	r.s = testkit.Must(r.NewStream())(t)
	for i := range r.device {
		r.device[i] = testkit.Must(r.Allocate(size))(t)
		r.host[i] = testkit.Must(r.Pinned(size))(t)
		clear(r.host[i])
	}
	return r
}

func (r *rig) upload(t *testing.T, to int, value byte) {
	t.Helper()
	for i := range r.host[to] {
		r.host[to][i] = value
	}
	testkit.OK(t, r.s.Copy(r.device[to], unsafe.Pointer(&r.host[to][0]), size, ToDevice))
}

// holds asserts what is on the device.
func (r *rig) holds(t *testing.T, at int, want byte) {
	t.Helper()
	got := make([]byte, size)
	testkit.OK(t, errors.Join(r.s.Copy(unsafe.Pointer(&got[0]), r.device[at], size, ToHost), r.s.Wait()))
	for _, b := range got {
		if b != want {
			t.Fatalf("buffer %d holds %v, want %d", at, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	l := testkit.Must(Load(fake(t)))(t)
	if l.Runtime != 13000 || l.Driver != 13010 || l.Devices != 2 {
		t.Errorf("%+v", l)
	}
	testkit.Refused(l.Device(2))(t, "no CUDA device 2: there are 2")
	testkit.Refused(l.Device(-1))(t, "no CUDA device -1")
	testkit.Refused(Load(filepath.Join(t.TempDir(), "libgone.so")))(t, ErrNone)
	t.Setenv("FAKE_CUDA_NONE", "1")
	testkit.Refused(Load(fake(t)))(t, "looking for devices: no CUDA-capable device is detected (error 100)")
}

// A library that lacks a function is not used in part.
func TestLoadOfSomethingElse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the CUDA runtime is called on Linux only")
	}
	testkit.Refused(Load("libm.so.6"))(t, ErrNone, "libm.so.6 has no function cudaGetErrorString")
}

func TestMemory(t *testing.T) {
	r := open(t)
	free, total, err := r.Room()
	testkit.OK(t, err)
	p := testkit.Must(r.Allocate(1000))(t)
	less, _, err := r.Room()
	if err != nil || total != 1<<30 || free-less != 1000 {
		t.Errorf("%d of %d, then %d: %v", free, total, less, err)
	}
	t.Setenv("FAKE_CUDA_MEMORY", "2000")
	testkit.Refused(r.Allocate(1000))(t, ErrMemory, "allocating 1000 bytes on device 1: out of memory (error 2)")
	testkit.OK(t, r.Free(p))
	testkit.OK(t, errors.Join(r.Free(testkit.Must(r.Allocate(1000))(t)), r.FreePinned(r.host[0])))
	testkit.Fails(t, r.Free(p), "freeing memory")
}

// Work is done in order, and later than it is submitted.
func TestStream(t *testing.T) {
	r := open(t)
	r.upload(t, 0, 7)
	testkit.OK(t, errors.Join(r.s.Copy(r.device[1], r.device[0], size, Within), r.s.Fill(r.device[0], 9, size),
		r.s.Copy(unsafe.Pointer(&r.host[2][0]), r.device[1], size, ToHost)))
	if r.host[2][0] != 0 {
		t.Error("a copy is complete when it is submitted")
	}
	testkit.OK(t, r.s.Wait())
	if r.host[2][size-1] != 7 {
		t.Errorf("%v comes back", r.host[2])
	}
	r.holds(t, 0, 9)
	testkit.Fails(t, r.s.Copy(r.device[1], r.device[0], size, ToHost), "copying")
	testkit.OK(t, errors.Join(r.s.Close(), r.s.Close()))
	t.Setenv("FAKE_CUDA_NO_HOST", "1") // a new stream has called a function of the host
	testkit.Refused(r.NewStream())(t, "making a stream: ", "error 801")
}

// An event tells when what was before it is complete, and holds another stream until then.
func TestEvents(t *testing.T) {
	r := open(t)
	other := testkit.Must(r.NewStream())(t)
	a, b := testkit.Must(r.NewEvent(true))(t), testkit.Must(r.NewEvent(true))(t)
	if done, err := a.Done(); !done || err != nil {
		t.Errorf("an event that was never recorded: %v %v", done, err)
	}
	testkit.OK(t, a.Record(r.s))
	r.upload(t, 0, 5)
	testkit.OK(t, errors.Join(b.Record(r.s), other.After(b)))
	testkit.OK(t, other.Copy(unsafe.Pointer(&r.host[1][0]), r.device[0], size, ToHost))
	if done, err := b.Done(); done || err != nil {
		t.Errorf("done before anything ran: %v %v", done, err)
	}
	testkit.OK(t, other.Wait())
	if r.host[1][0] != 5 {
		t.Error("the other stream did not wait")
	}
	if done, err := b.Done(); !done || err != nil {
		t.Errorf("%v %v", done, err)
	}
	testkit.OK(t, b.Wait())
	if d, err := b.Since(a); err != nil || d != 3*time.Millisecond {
		t.Errorf("%v %v: the wait, the copy and the event take a millisecond each", d, err)
	}
	plain := testkit.Must(r.NewEvent(false))(t)
	testkit.OK(t, errors.Join(plain.Record(r.s), plain.Wait()))
	_, err := plain.Since(a)
	testkit.Fails(t, err, "the time between two events")
	t.Setenv("FAKE_CUDA_LOST", "1")
	_, err = b.Done()
	testkit.Fails(t, err, "asking for an event: unspecified failure (error 719)")
	testkit.Fails(t, b.Wait(), "719")
	testkit.OK(t, errors.Join(a.Close(), a.Close(), (*Event)(nil).Close()))
}

// A graph does again what was captured, with the data of then, in its place in the stream.
func TestCapture(t *testing.T) {
	r := open(t)
	g, err := r.s.Capture(func() error {
		return errors.Join(r.s.Copy(r.device[1], r.device[0], size, Within), r.s.Fill(r.device[2], 3, size))
	})
	testkit.OK(t, err)
	if want := (Nodes{Copies: 1, Fills: 1}); g.Nodes != want {
		t.Errorf("%v", g.Nodes)
	}
	r.holds(t, 1, 0xab) // nothing has run yet
	for _, v := range []byte{6, 8} {
		r.upload(t, 0, v)
		testkit.OK(t, errors.Join(g.Launch(r.s), r.s.Fill(r.device[0], 0, size)))
		r.holds(t, 1, v)
	}
	r.holds(t, 2, 3)
	testkit.OK(t, errors.Join(g.Close(), g.Close()))
}

// What cannot be replayed is refused, and the stream works as before.
func TestUncaptured(t *testing.T) {
	r := open(t)
	within := func() error { return r.s.Copy(r.device[1], r.device[0], size, Within) }
	for _, c := range []struct {
		name, node string
		submit     func() error
		says       string
	}{
		{"nothing", "", func() error { return nil }, "does nothing on the stream"},
		{"fails", "", func() error { return errors.New("no such kernel") }, "no such kernel"},
		{"waits", "", func() error { return errors.Join(within(), r.s.Wait()) }, "not permitted when stream is capturing"},
		{"waits and hides it", "", func() error { _ = r.s.Wait(); return nil }, "previous error during capture"},
		{"from the host", "", func() error {
			return r.s.Copy(r.device[0], unsafe.Pointer(&r.host[0][0]), size, ToDevice)
		}, "copies from the host's memory"},
		{"to the host", "", func() error {
			return r.s.Copy(unsafe.Pointer(&r.host[0][0]), r.device[0], size, ToHost)
		}, "copies to the host's memory"},
		{"host function", "3", within, "a function of the host"},
		{"host function within", "4", within, "a function of the host"},
		{"condition", "13", within, "a condition"},
		{"unknown", "77", within, "a node of kind 77"},
		{"allocation", "10", within, "memory that it does not free"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.node != "" {
				t.Setenv("FAKE_CUDA_NODE", c.node)
			}
			_, err := r.s.Capture(c.submit)
			testkit.Fails(t, err, ErrUncaptured, c.says)
			r.upload(t, 3, 4)
			r.holds(t, 3, 4)
		})
	}
	t.Setenv("FAKE_CUDA_FULL", "1")
	_, err := r.s.Capture(within)
	testkit.Fails(t, err, ErrUncaptured, ErrMemory)
}

func TestError(t *testing.T) {
	if err := error(&Error{Code: 700, Text: "x"}); errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "700") {
		t.Error(err)
	}
}
