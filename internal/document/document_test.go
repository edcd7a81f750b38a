package document

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

type thing struct {
	Name  string         `json:"name"`
	Ratio float64        `json:"ratio,omitempty"`
	Parts []int          `json:"parts,omitempty"`
	More  map[string]any `json:"more,omitempty"`
}

// example has what JSON encoders like to change: HTML, separators, invalid
// UTF-8's replacement, indentation inside strings.
var example = thing{Name: "<a & b>\u2028\n\t\"\\ \ufffd é", Ratio: 0.1, Parts: []int{1, 2, 3},
	More: map[string]any{"deep": map[string]any{"list": []any{1.5, "x", nil, true}}}}

func TestRoundTrip(t *testing.T) {
	data := testkit.Must(Encode("thing", 3, example))(t)
	var got thing
	testkit.OK(t, Decode(data, "thing", 3, &got))
	if !reflect.DeepEqual(got, example) {
		t.Errorf("got %+v, want %+v", got, example)
	}
	again, err := Encode("thing", 3, got)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("encoding again gives\n%s (%v)\nfirst\n%s", again, err, data)
	}
}

// TestLayoutIsFree: the checksum is of the content, not of its indentation.
func TestLayoutIsFree(t *testing.T) {
	data, _ := Encode("thing", 1, thing{Name: "n", Parts: []int{1, 2}})
	spread := bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n\t  "))
	var got thing
	if err := Decode(spread, "thing", 1, &got); err != nil || got.Name != "n" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	data := testkit.Must(Encode("thing", 1, example))(t)
	good := string(data)
	changed := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("%q is not in the document", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	for _, c := range []struct {
		name string
		data string
		want error
		says string
	}{
		{"empty", "", ErrDamaged, "not a terastal document"},
		{"not JSON", "hello", ErrDamaged, "not a terastal document"},
		{"another JSON", `{"name":"n"}`, ErrDamaged, "not a terastal document"},
		{"no body", `{"terastal":"thing","version":1,"sha256":""}`, ErrDamaged, ""},
		{"cut", good[:len(good)/2], ErrDamaged, "not a terastal document"},
		{"something after it", good + "{}", ErrDamaged, "follows"},
		{"a changed number", changed("0.1", "0.2"), ErrDamaged, "checksum"},
		{"a changed checksum", changed(`"sha256": "`, `"sha256": "0`), ErrDamaged, "checksum"},
		{"another kind", changed(`"terastal": "thing"`, `"terastal": "other"`), ErrKind, `a "other" document, need "thing"`},
		{"another version", changed(`"version": 1`, `"version": 2`), ErrVersion, "schema version 2, this terastal reads 1"},
	} {
		var got thing
		testkit.Fails(t, Decode([]byte(c.data), "thing", 1, &got), c.want, c.says)
	}
	// A key that the reader does not know is refused although the checksum fits.
	data, _ = Encode("thing", 1, map[string]int{"name ": 1})
	testkit.Fails(t, Decode(data, "thing", 1, &thing{}), ErrDamaged, "unknown field")
	if _, err := Encode("thing", 1, math.Inf(1)); err == nil {
		t.Error("infinity was encoded")
	}
}

// TestEveryByteCounts: no single changed byte of the content goes unnoticed.
func TestEveryByteCounts(t *testing.T) {
	want := thing{Name: "abc", Parts: []int{12, 34}, Ratio: 5.5}
	data, _ := Encode("thing", 1, want)
	for i := range data {
		for _, c := range []byte{'0', 'x', '"'} {
			if data[i] == c {
				continue
			}
			changed := bytes.Clone(data)
			changed[i] = c
			var got thing
			if err := Decode(changed, "thing", 1, &got); err == nil {
				t.Errorf("byte %d changed from %q to %q: %+v", i, data[i], c, got)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "thing.json")
	testkit.OK(t, Write(path, "thing", 1, example))
	var got thing
	if err := Read(path, "thing", 1, &got); err != nil || !reflect.DeepEqual(got, example) {
		t.Errorf("got %+v, %v", got, err)
	}
	testkit.Fails(t, Read(path, "other", 1, &got), ErrKind, path)
	testkit.Fails(t, Read(path+"x", "thing", 1, &got), os.ErrNotExist)
	// A write that fails leaves the old file and nothing next to it.
	if err := Write(path, "thing", 1, math.NaN()); err == nil {
		t.Error("NaN was written")
	}
	if err := Read(path, "thing", 1, &got); err != nil {
		t.Errorf("the old file is gone: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
	if err := Write(filepath.Join(path, "below"), "thing", 1, 1); err == nil {
		t.Error("a file served as a folder")
	}
}

// TestGzip: a document may be gzipped, whatever it is called; a damaged or endless one is refused.
func TestGzip(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(testkit.Must(Encode("thing", 1, example))(t))
	testkit.OK(t, z.Close())
	path := filepath.Join(t.TempDir(), "thing.json"+Gzipped)
	read := func(data []byte) (got thing, err error) {
		testkit.OK(t, os.WriteFile(path, data, 0o644))
		return got, Read(path, "thing", 1, &got)
	}
	if got, err := read(packed.Bytes()); err != nil || !reflect.DeepEqual(got, example) {
		t.Errorf("got %+v, %v", got, err)
	}
	changed := bytes.Clone(packed.Bytes())
	changed[packed.Len()-6] ^= 1 // of the checksum
	for _, data := range [][]byte{packed.Bytes()[:packed.Len()/2], packed.Bytes()[:2], changed} {
		_, err := read(data)
		testkit.Fails(t, err, ErrDamaged, "gzip")
	}
	if _, err := content(bytes.NewReader(packed.Bytes()), 100); err == nil || err.Error() != "larger than 100 bytes" {
		t.Errorf("too large a document: %v", err)
	}
}

// FuzzDecode: whatever the bytes, as a file or as the body of a file with the
// right checksum, Decode returns; what it accepts survives a round trip.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{example, thing{}, nil, 1} {
		data := testkit.Must(Encode("thing", 1, v))(f)
		f.Add(data)
	}
	f.Add([]byte(`{"terastal":"thing","version":1,"sha256":"","body":{}}`))
	f.Add([]byte(`{"name":"n","ratio":1e3,"parts":[],"more":{"a":[[[[1]]]]}}`))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := content(bytes.NewReader(data), 1<<20); err == nil && len(got) > 1<<20 {
			t.Errorf("%d bytes", len(got))
		}
		decodeTwice(t, data)
		if body, err := Encode("thing", 1, json.RawMessage(data)); err == nil {
			decodeTwice(t, body)
		}
	})
}

func decodeTwice(t *testing.T, data []byte) {
	var got, again thing
	if err := Decode(data, "thing", 1, &got); err != nil {
		return
	}
	first := testkit.Must(Encode("thing", 1, got))(t)
	if err := Decode(first, "thing", 1, &again); err != nil {
		t.Fatalf("%s is refused: %v", first, err)
	}
	if second, err := Encode("thing", 1, again); err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s became %s, %v", first, second, err)
	}
}
