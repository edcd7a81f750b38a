package energy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/terastal/terastal/internal/nvml"
	"github.com/terastal/terastal/internal/testkit"
)

// bench is a machine whose time, files and GPUs a test moves on.
type bench struct {
	Machine
	files    fstest.MapFS
	now      time.Time
	gpus     []nvml.Energy
	interval time.Duration
	read     func() // nil while nothing is read again and again
	closed   int
}

func (b *bench) Read() []nvml.Energy { return slices.Clone(b.gpus) }

func (b *bench) Close() { b.closed++ }

func newBench() *bench {
	b := &bench{files: fstest.MapFS{}, now: time.Unix(1000, 0)}
	b.Machine = Machine{Root: b.files, Now: func() time.Time { return b.now },
		GPUs: func() (GPUs, error) {
			if b.gpus == nil {
				return nil, nvml.ErrNone
			}
			return b, nil
		},
		Every: func(interval time.Duration, read func()) func() {
			b.interval, b.read = interval, read
			return func() { b.read = nil }
		}}
	return b
}

func (b *bench) put(name, text string) { b.files[name] = &fstest.MapFile{Data: []byte(text + "\n")} }

const rapl = "sys/class/powercap/intel-rapl:"

// zone is a zone of RAPL, with its counter.
func (b *bench) zone(number, name string, microjoules, most int64) {
	b.put(rapl+number+"/name", name)
	b.put(rapl+number+"/energy_uj", fmt.Sprint(microjoules))
	b.put(rapl+number+"/max_energy_range_uj", fmt.Sprint(most))
}

// pass lets time pass; the meter reads at its end if it does.
func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	if b.read != nil {
		b.read()
	}
}

// Packages are metered, across the end of their counters, and nothing that they contain or that contains them.
func TestPackages(t *testing.T) {
	b := newBench()
	b.zone("0", "package-0", 262_000_000_000, 262_143_000_000)
	b.zone("1", "package-1", 5_000_000, 262_143_000_000)
	b.zone("2", "psys", 1, 262_143_000_000)
	b.zone("0:0", "core", 1, 262_143_000_000)
	b.zone("0:1", "package-9", 1, 262_143_000_000)
	b.put("sys/class/powercap/intel-rapl-mmio:0/name", "package-0")
	b.put("sys/class/powercap/intel-rapl-mmio:0/energy_uj", "7")
	m := Open(b.Machine)
	defer m.Close()
	if notes := m.Notes(); notes != nil {
		t.Errorf("notes: %q", notes)
	}
	m.Start()
	// Twice per time around at most.
	if b.interval > 263*time.Second/2 || b.interval < time.Second {
		t.Errorf("counters that last 262 s at 1 kW are read every %v", b.interval)
	}
	b.zone("0", "package-0", 100_000_000, 262_143_000_000)
	b.pass(100 * time.Second)
	b.zone("0", "package-0", 300_000_000, 262_143_000_000)
	b.zone("1", "package-1", 5_250_000, 262_143_000_000)
	b.now = b.now.Add(time.Second)
	got := m.Stop()
	testkit.Equal(t, Reading{Took: 101 * time.Second, Sources: []Source{
		{Name: "package-0", Kind: CPU, How: ByCounter, Joules: 443},
		{Name: "package-1", Kind: CPU, How: ByCounter, Joules: 0.25}}}, got)
	if got.Joules(CPU) != 443.25 || got.Joules(GPU) != 0 {
		t.Errorf("sums: %v, %v", got.Joules(CPU), got.Joules(GPU))
	}
	if b.read != nil {
		t.Error("it still reads after Stop")
	}
	// A second run counts for itself.
	m.Start()
	b.zone("1", "package-1", 7_250_000, 262_143_000_000)
	if again := m.Stop(); again.Joules(CPU) != 2 {
		t.Errorf("the second run: %+v", again)
	}
}

// denied refuses the counters, as Linux does to all but the administrator.
type denied struct{ fs.FS }

func (d denied) Open(name string) (fs.File, error) {
	if ok, _ := fs.Stat(d.FS, name); ok != nil && ok.Name() == "energy_uj" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.FS.Open(name)
}

// What must not be read is said once, for all packages; what is damaged or goes away is left out.
func TestPackagesRefused(t *testing.T) {
	b := newBench()
	b.zone("0", "package-0", 1, 262_143_000_000)
	b.zone("1", "package-1", 1, 262_143_000_000)
	b.Root = denied{b.files}
	m := Open(b.Machine)
	if notes := m.Notes(); len(notes) != 1 {
		t.Errorf("notes: %q", notes)
	}
	m.Start()
	if got := m.Stop(); got.Sources != nil || b.interval != 0 {
		t.Errorf("got %+v, read every %v", got, b.interval)
	}
	b.Root = b.files
	b.put(rapl+"0/energy_uj", "many")
	b.zone("2", "package-2", 1_000_000, 0)
	b.zone("3", "package-3", 3_000_000, 0)
	m = Open(b.Machine)
	m.Start()
	delete(b.files, rapl+"1/energy_uj")
	b.put(rapl+"2/energy_uj", "0") // reset, and where it wraps around is not known
	b.put(rapl+"3/energy_uj", "4000000")
	got := m.Stop()
	testkit.Equal(t, []Source{{Name: "package-3", Kind: CPU, How: ByCounter, Joules: 1}}, got.Sources)
}

// GPUs are metered by their counters, without one by their power; one that tells nothing is named.
func TestGPUs(t *testing.T) {
	b := newBench()
	b.gpus = []nvml.Energy{{Bus: "0000:01:00.0", Name: "A", Counts: true, Joules: 1000},
		{Name: "B", Measures: true, PowerW: 100}, {Name: "C"}, {Name: "D", Counts: true, Joules: 7}}
	m := Open(b.Machine)
	if notes := m.Notes(); len(notes) != 2 {
		t.Errorf("notes: %q", notes)
	}
	m.Start()
	if b.interval != 50*time.Millisecond {
		t.Errorf("power is read every %v", b.interval)
	}
	b.gpus[1].PowerW = 200
	b.pass(50 * time.Millisecond) // 150 W on average
	b.pass(50 * time.Millisecond) // 200 W
	b.gpus[0].Joules, b.gpus[1].PowerW = 1012.5, 100
	b.gpus[3] = nvml.Energy{Name: "D", Measures: true, PowerW: 3} // its counter fails from here on
	b.now = b.now.Add(10 * time.Millisecond)                      // 150 W on average
	got := m.Stop()
	testkit.Equal(t, Reading{Took: 110 * time.Millisecond, Sources: []Source{
		{Name: "A (0000:01:00.0)", Kind: GPU, How: ByCounter, Joules: 12.5},
		{Name: "B", Kind: GPU, How: ByPower, Joules: 7.5 + 10 + 1.5}}}, got)
	m.Close()
	if b.closed != 1 {
		t.Errorf("closed %d times", b.closed)
	}
}

// Without a driver there is nothing to say; one that fails is named.
func TestNoGPUs(t *testing.T) {
	b := newBench()
	m := Open(b.Machine)
	if notes := m.Notes(); notes != nil {
		t.Errorf("notes: %q", notes)
	}
	m.Start()
	b.now = b.now.Add(time.Second)
	testkit.Equal(t, Reading{Took: time.Second}, m.Stop())
	m.Close()
	b.Machine.GPUs = func() (GPUs, error) { return nil, errors.New("code 18") }
	if notes := Open(b.Machine).Notes(); len(notes) != 1 {
		t.Errorf("notes: %q", notes)
	}
	b.Machine.GPUs = nil
	Open(b.Machine).Close()
}

// This machine is metered without an error, whatever it has, also while it reads again and again.
func TestThisMachine(t *testing.T) {
	m := Open(This())
	defer m.Close()
	m.interval = time.Millisecond
	m.Start()
	if got := m.Stop(); got.Took < 0 || got.Joules(GPU) < 0 || got.Joules(CPU) < 0 {
		t.Errorf("got %+v", got)
	}
	reads := make(chan bool)
	stop := every(time.Millisecond, func() { reads <- true })
	<-reads
	<-reads
	go func() {
		for range reads { // one that is under way
		}
	}()
	stop()
	close(reads)
}
