package enginecache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"pgregory.net/rapid"
)

var keys = rapid.Custom(func(t *rapid.T) Key {
	part := rapid.StringMatching(`[ab:0-9]{0,3}`)
	return Key{
		Model: part.Draw(t, "model"), Provider: part.Draw(t, "provider"), Library: part.Draw(t, "library"), Runtime: part.Draw(t, "runtime"),
		Device: part.Draw(t, "device"), Machine: part.Draw(t, "machine"), Options: rapid.MapOfN(part, part, 0, 3).Draw(t, "options"),
	}
})

// equal compares keys the slow and certain way.
func equal(a, b Key) bool {
	if a.Model != b.Model || a.Provider != b.Provider || a.Library != b.Library || a.Runtime != b.Runtime || a.Device != b.Device || a.Machine != b.Machine || len(a.Options) != len(b.Options) {
		return false
	}
	for k, v := range a.Options {
		if w, ok := b.Options[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// Two keys name the same entry if and only if they are the same, also where what
// stands in one part could as well stand in the next.
func TestSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys.Draw(t, "a"), keys.Draw(t, "b")
		if (a.Sum() == b.Sum()) != equal(a, b) {
			t.Errorf("%+v and %+v: %s and %s", a, b, a.Sum(), b.Sum())
		}
		if len(a.Sum()) != 64 {
			t.Errorf("%q", a.Sum())
		}
	})
	// Every part counts.
	base := Key{"m", "p", "l", "r", "d", "h", map[string]string{"o": "1"}}
	for _, other := range []Key{
		{"x", "p", "l", "r", "d", "h", base.Options}, {"m", "x", "l", "r", "d", "h", base.Options}, {"m", "p", "x", "r", "d", "h", base.Options},
		{"m", "p", "l", "x", "d", "h", base.Options}, {"m", "p", "l", "r", "x", "h", base.Options}, {"m", "p", "l", "r", "d", "x", base.Options},
		{"m", "p", "l", "r", "d", "h", map[string]string{"o": "2"}}, {"m", "p", "l", "r", "d", "h", nil},
	} {
		if base.Sum() == other.Sum() {
			t.Errorf("%+v has the name of %+v", other, base)
		}
	}
}

const plenty = 1 << 30

func open(t *testing.T, root string, k Key) *Entry {
	t.Helper()
	return testkit.Must(Open(root, k))(t)
}

// fill makes the entry of a key as a provider would.
func fill(t *testing.T, root string, k Key, limit int64) *Entry {
	t.Helper()
	e := open(t, root, k)
	if e.Hit {
		t.Fatalf("%+v is there already", k)
	}
	testkit.Write(t, filepath.Join(e.Dir, "blob"), "engine of "+k.Model)
	testkit.OK(t, e.Commit(limit))
	return e
}

func TestEntry(t *testing.T) {
	root := filepath.Join(t.TempDir(), "engines")
	k := Key{Model: "m", Provider: "p"}
	fill(t, root, k, plenty)
	hit := open(t, root, k)
	data, err := os.ReadFile(filepath.Join(hit.Dir, "blob"))
	if !hit.Hit || err != nil || string(data) != "engine of m" {
		t.Fatalf("hit %v, %q, %v", hit.Hit, data, err)
	}
	testkit.OK(t, hit.Commit(plenty))
	if other := open(t, root, Key{Model: "m", Provider: "q"}); other.Hit {
		t.Error("another provider gets the engine")
	} else {
		other.Discard()
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want the one entry and nothing unfinished", entries, err)
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into the cache: %v, %v", info.Mode(), err)
	}
}

func TestDamaged(t *testing.T) {
	k := Key{Model: "m"}
	for name, damage := range map[string]func(dir string) error{
		"changed":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "blob"), []byte("engine of x"), 0o600) },
		"cut":         func(dir string) error { return os.Truncate(filepath.Join(dir, "blob"), 3) },
		"added":       func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) },
		"removed":     func(dir string) error { return os.Remove(filepath.Join(dir, "blob")) },
		"no files":    os.RemoveAll,
		"link":        func(dir string) error { return os.Symlink("blob", filepath.Join(dir, "link")) },
		"no manifest": func(dir string) error { return os.Remove(filepath.Join(filepath.Dir(dir), manifestName)) },
		"bad manifest": func(dir string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(dir), manifestName), []byte("{"), 0o600)
		},
		"renamed": func(dir string) error {
			// Another key's entry in the place of this one's.
			other := Key{Model: "other"}
			root := filepath.Dir(filepath.Dir(dir))
			if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
				return err
			}
			return os.Rename(filepath.Join(root, other.Sum()), filepath.Dir(dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			fill(t, root, Key{Model: "other"}, plenty)
			fill(t, root, k, plenty)
			testkit.OK(t, damage(filepath.Join(root, k.Sum(), filesName)))
			e := open(t, root, k)
			if e.Hit {
				t.Fatal("a damaged engine is used")
			}
			e.Discard()
			fill(t, root, k, plenty)
			if !open(t, root, k).Hit {
				t.Error("it was not replaced")
			}
		})
	}
}

// Two processes that fill the same entry at once both succeed.
func TestTwoFill(t *testing.T) {
	root := t.TempDir()
	k := Key{Model: "m"}
	a, b := open(t, root, k), open(t, root, k)
	if a.Hit || b.Hit || a.Dir == b.Dir {
		t.Fatalf("%+v and %+v", a, b)
	}
	for _, e := range []*Entry{a, b} {
		testkit.Write(t, filepath.Join(e.Dir, "blob"), "engine")
	}
	for _, e := range []*Entry{a, b} {
		testkit.OK(t, e.Commit(plenty))
	}
	if !open(t, root, k).Hit {
		t.Error("there is no entry")
	}
	if entries, _ := os.ReadDir(root); len(entries) != 1 {
		t.Errorf("%v are left", entries)
	}
}

func TestNothingLeft(t *testing.T) {
	root := t.TempDir()
	e := open(t, root, Key{Model: "m"})
	testkit.OK(t, e.Commit(plenty))
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("a provider that left nothing made %v", entries)
	}
}

func TestBound(t *testing.T) {
	root := t.TempDir()
	long := time.Now().Add(-48 * time.Hour)
	fill(t, root, Key{Model: "old"}, plenty)
	fill(t, root, Key{Model: "used"}, plenty)
	for i, k := range []Key{{Model: "old"}, {Model: "used"}} {
		at := long.Add(time.Duration(i) * time.Minute)
		testkit.OK(t, os.Chtimes(filepath.Join(root, k.Sum()), at, at))
	}
	if !open(t, root, Key{Model: "old"}).Hit { // used now, so that it is the newer one
		t.Fatal("not there")
	}
	left := filepath.Join(root, temporaryPrefix+"1")
	testkit.OK(t, os.Mkdir(left, 0o700))
	testkit.OK(t, os.Chtimes(left, long, long))
	size := weight(filepath.Join(root, Key{Model: "old"}.Sum()))
	fill(t, root, Key{Model: "new"}, 2*size+size/2)
	for model, want := range map[string]bool{"old": true, "used": false, "new": true} {
		if _, err := os.Stat(filepath.Join(root, Key{Model: model}.Sum())); (err == nil) != want {
			t.Errorf("%s: %v", model, err)
		}
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what nobody finishes stays")
	}
	// The newest entry stays, however large.
	fill(t, root, Key{Model: "huge"}, 0)
	if entries, _ := os.ReadDir(root); len(entries) != 1 || !open(t, root, Key{Model: "huge"}).Hit {
		t.Errorf("%v are left", entries)
	}
}

func TestOthersMayWrite(t *testing.T) {
	root := t.TempDir()
	testkit.OK(t, os.Chmod(root, 0o777))
	testkit.Refused(Open(root, Key{}))(t, "chmod")
	testkit.Fails(t, Check(root), "chmod")
}

func TestCheck(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	testkit.OK(t, Check(root))
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v: want an empty folder", entries, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	testkit.Write(t, file, "")
	if err := Check(filepath.Join(file, "engines")); err == nil {
		t.Error("a folder below a file passes")
	}
}

// Whatever stands in a manifest, an entry whose files do not fit it is no hit.
func FuzzManifest(f *testing.F) {
	k := Key{Model: "m"}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"key":{"model":"m"},"files":{"blob":""}}`))
	f.Add([]byte(`{"key":{"model":"m"},"files":{"../../x":"00"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := t.TempDir()
		folder := filepath.Join(root, k.Sum())
		testkit.OK(t, os.MkdirAll(filepath.Join(folder, filesName), 0o700))
		testkit.Write(t, filepath.Join(folder, manifestName), data)
		testkit.Write(t, filepath.Join(folder, filesName, "blob"), "x")
		const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
		e := testkit.Must(Open(root, k))(t)
		if e.Hit && !strings.Contains(string(data), sum) {
			t.Errorf("%q passes", data)
		}
	})
}
