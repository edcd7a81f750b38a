package profiler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// What this test binary does instead of its tests when a test starts it.
const role = "PROFILER_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "process":
		err = serveFaulty()
	case "bench":
		err = serveBench()
	case "measure":
		err = measureAndPrint()
	case "end":
		err = errors.New("no memory left")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// as is a command that runs this binary in a role.
func as(r string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), role+"="+r), env...)
	return cmd
}

// faulty is an accelerator with a layer that takes the process with it, hangs or fails, as the environment says.
type faulty struct {
	runtime.Accelerator
	layer string
}

const (
	faultWhat  = "PROFILER_TEST_FAULT"  // crash, hang, fail or load
	faultTimes = "PROFILER_TEST_MARKER" // a folder: happens once only
)

func (f faulty) due(what string) bool {
	if os.Getenv(faultWhat) != what {
		return false
	}
	if dir := os.Getenv(faultTimes); dir != "" {
		return os.Mkdir(filepath.Join(dir, "done"), 0o755) == nil
	}
	return true
}

func (f faulty) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := f.Accelerator.Prepare(u)
	if !strings.Contains(u.Name, f.layer) {
		return k, err
	}
	if f.due("load") {
		os.Exit(-1)
	}
	return faultyKernel{k, f}, err
}

type faultyKernel struct {
	runtime.Kernel
	f faulty
}

func (k faultyKernel) Run(in, out []*runtime.Tensor) error {
	switch {
	case k.f.due("crash"):
		os.Exit(-1)
	case k.f.due("hang"):
		select {}
	case k.f.due("fail"):
		return errors.New("failed by the test")
	}
	return k.Kernel.Run(in, out)
}

func serveFaulty() error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	n, err := network()
	if err != nil {
		return err
	}
	t := profiler.Task{Accelerators: specs[1:], Networks: []*runtime.Network{n},
		Open: func(s runtime.Spec) (runtime.Accelerator, error) {
			a, err := runtime.OpenORT(s)
			return faulty{a, n.Layers[2].Name}, err
		}}
	return profiler.Serve(os.Stdin, profiler.Output(), t, 0)
}

func faultyTask(t *testing.T, env ...string) profiler.Task {
	orttest.Start(t)
	n := testkit.Must(network())(t)
	return profiler.Task{Accelerators: specs[1:], Networks: []*runtime.Network{n},
		Start: func(int) (profiler.Conn, error) { return profiler.Start(as("process", env...)) }}
}

// A layer that takes its process with it, hangs or fails costs its cell and nothing else; one that does it once costs
// nothing.
func TestFaults(t *testing.T) {
	for what, reason := range map[string]string{"crash": "crashed", "hang": "hung", "fail": "failed by the test",
		"load": "crashed"} {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/once=%v", what, once), func(t *testing.T) {
				t.Parallel() // they wait for processes that start, and for one that hangs
				env := []string{faultWhat + "=" + what}
				if once {
					env = append(env, faultTimes+"="+t.TempDir())
				}
				o := options(time.Millisecond)
				o.Timeout = 2 * time.Second
				p := testkit.Must(profiler.Measure(context.Background(), faultyTask(t, env...), o))(t)
				for _, c := range p.Cells {
					switch {
					case c.Layer == 2 && !once:
						if c.Measured() || !strings.Contains(c.Refused, reason) {
							t.Errorf("the faulty cell is %+v, want refused with %q", c, reason)
						}
					case !c.Measured():
						t.Errorf("cell %+v was lost", c)
					}
				}
				if warned := slices.ContainsFunc(p.Warnings,
					func(w profiler.Warning) bool { return w.Code == profiler.WarnFailed }); warned == once {
					t.Errorf("warnings %v", p.Warnings)
				}
			})
		}
	}
}

// A measuring process that ends whatever it is asked is given up, with what it said last.
func TestLost(t *testing.T) {
	tk := faultyTask(t)
	started := 0
	tk.Start = func(int) (profiler.Conn, error) {
		started++
		return profiler.Start(as("end"))
	}
	p, err := profiler.Measure(t.Context(), tk, options(time.Millisecond))
	const want = `accelerator "basic": its measuring process was lost 3 times, the last time: no memory left`
	if p != nil || err == nil || err.Error() != want || started != 3 {
		t.Errorf("%v, %v after %d processes, want %s", p, err, started, want)
	}
}

const journalPath = "PROFILER_TEST_JOURNAL"

// measureAndPrint measures with a measuring process, until killed.
func measureAndPrint() error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	n, err := network()
	if err != nil {
		return err
	}
	o := options(time.Hour)
	o.Precision, o.Journal = 1e-9, os.Getenv(journalPath)
	_, err = profiler.Measure(context.Background(), profiler.Task{Accelerators: specs[1:], Networks: []*runtime.Network{n},
		Start: func(int) (profiler.Conn, error) { return profiler.Start(as("process")) }}, o)
	return err
}

// A process that is killed while it measures loses nothing that it had written: the next continues, and the one after
// that.
func TestKilled(t *testing.T) {
	tk := faultyTask(t)
	path := filepath.Join(t.TempDir(), "p.journal")
	var before []byte
	for n := range 3 {
		cmd := as("measure", journalPath+"="+path)
		testkit.OK(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// Killed when the journal has grown by some, at no particular place.
		for want := len(before) + 3000 + 777*n; ; {
			if data, _ := os.ReadFile(path); len(data) >= want {
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("it ended by itself: %v", err)
			default:
			}
		}
		cmd.Process.Kill()
		<-ended
		data := testkit.Must(os.ReadFile(path))(t)
		whole := before[:bytes.LastIndexByte(before, '\n')+1]
		if !bytes.HasPrefix(data, whole) {
			t.Fatal("what was there before was not kept")
		}
		before = data
	}
	lines := bytes.Count(before, []byte("\n"))
	o := options(time.Millisecond)
	o.Journal = path
	p := testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	// Most lines are rounds, each of which has a time of every cell.
	if got := p.Cells[0].N; got < 12 || got < lines-60 {
		t.Errorf("%d samples of a cell after a journal of %d lines", got, lines)
	}
}

// A journal of something else, or that was damaged, is refused and left alone; one that another process writes is not
// touched.
func TestJournalRefused(t *testing.T) {
	tk := task(t)
	path := filepath.Join(t.TempDir(), "p.journal")
	o := options(time.Millisecond)
	o.Journal = path
	testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	good := testkit.Must(os.ReadFile(path))(t)
	refused := func(o profiler.Options, content []byte, want string) {
		t.Helper()
		testkit.Write(t, path, content)
		testkit.Refused(profiler.Measure(context.Background(), tk, o))(t, profiler.ErrJournal, want)
		if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
			t.Error("it was changed")
		}
	}
	tk.Seed = 7
	refused(o, good, "other models, accelerators or settings")
	tk.Seed = 0
	refused(o, bytes.Replace(good, []byte(`"times_ns":"`), []byte(`"times_ns":"1`), 1), "damaged")
	refused(o, []byte("notes of mine\n"), "line 1 is damaged")
	testkit.Write(t, path, good[:len(good)-5])
	if _, err := profiler.Measure(context.Background(), tk, o); err != nil {
		t.Errorf("a cut last line: %v", err)
	}
	testkit.OK(t, profiler.RemoveJournal(path))
	if err := profiler.RemoveJournal(path); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// With time for it, every accelerator is measured by two processes, one after the other, which both contribute.
func TestRenewed(t *testing.T) {
	tk := faultyTask(t)
	started, start := 0, tk.Start
	tk.Start = func(k int) (profiler.Conn, error) {
		started++
		return start(k)
	}
	o := options(time.Hour)
	o.Precision = 1000
	p := testkit.Must(profiler.Measure(context.Background(), tk, o))(t)
	if started != 2 {
		t.Errorf("%d processes, want 2", started)
	}
	if p.Cells[0].N < 24 || p.Noise == nil {
		t.Errorf("%d samples of a cell, noise %v", p.Cells[0].N, p.Noise)
	}
}
