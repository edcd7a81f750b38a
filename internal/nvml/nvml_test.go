package nvml

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

func TestReasons(t *testing.T) {
	for mask, want := range map[uint64][]string{
		0: nil, 1: nil, 1 << 1: nil, 1 << 4: nil, 1 << 8: nil, 0x113: nil,
		1 << 2:             {"power limit"},
		1 << 3:             {"hardware slowdown"},
		1 << 5:             {"temperature (software)"},
		1<<6 | 1<<3:        {"hardware slowdown", "temperature (hardware)"},
		1<<7 | 1:           {"power brake"},
		1<<9 | 1<<10:       {"board limit", "reliability"},
		1<<11 | 1<<63 | 1:  {"reason 11", "reason 63"},
		1<<2 | 1<<5 | 1<<1: {"power limit", "temperature (software)"},
	} {
		if got := Reasons(mask); !slices.Equal(got, want) {
			t.Errorf("%#x: %q, want %q", mask, got, want)
		}
	}
}

// fake compiles a library that stands in for NVML.
func fake(t *testing.T, flags ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("NVML is read on Linux only")
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("there is no C compiler")
	}
	lib := filepath.Join(t.TempDir(), "libfake.so")
	args := append([]string{"-shared", "-fPIC", "-o", lib, filepath.Join("testdata", "fake.c")}, flags...)
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

// Two generations of the library, which name a function differently.
func TestRead(t *testing.T) {
	for _, flags := range [][]string{nil, {"-DOLD"}} {
		got := testkit.Must(Read(fake(t, flags...)))(t)
		want := []Device{{Bus: "0000:3b:00.0", Name: "NVIDIA Fake", ClockMHz: 1200, MaxClockMHz: 2000, MemoryClockMHz: 8000, MaxMemoryClockMHz: 9000,
			PowerW: 71.5, TemperatureC: 83, Limits: 0x21, PowerLimited: 5 * time.Second, ThermalLimited: 7 * time.Second}}
		testkit.Equal(t, want, got)
	}
}

func TestReadFails(t *testing.T) {
	t.Setenv("FAKE_NVML_FAILS", "1")
	testkit.Refused(Read(fake(t)))(t, "18")
	testkit.Refused(Read(filepath.Join(t.TempDir(), "libgone.so")))(t, ErrNone)
}

// A GPU with a counter is read by it, one without by its power.
func TestMeter(t *testing.T) {
	for _, c := range []struct {
		flags  []string
		not    string
		first  Energy
		second float64
	}{
		{nil, "", Energy{Counts: true, Joules: 4e9 + 1.5}, 4e9 + 3},
		{nil, "1", Energy{Measures: true, PowerW: 71.5}, 0},
		{[]string{"-DOLD"}, "", Energy{Measures: true, PowerW: 71.5}, 0},
	} {
		t.Setenv("FAKE_NVML_COUNTS_NOT", c.not)
		m := testkit.Must(Open(fake(t, c.flags...)))(t)
		c.first.Bus, c.first.Name = "0000:3b:00.0", "NVIDIA Fake"
		first, second := m.Read(), m.Read()
		m.Close()
		testkit.Equal(t, []Energy{c.first}, first)
		c.first.Joules = c.second
		testkit.Equal(t, []Energy{c.first}, second)
	}
	testkit.Refused(Open(filepath.Join(t.TempDir(), "libgone.so")))(t, ErrNone)
	t.Setenv("FAKE_NVML_FAILS", "1")
	testkit.Refused(Open(fake(t)))(t, "18")
}
