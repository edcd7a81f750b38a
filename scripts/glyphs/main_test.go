package main

import (
	"bytes"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
)

func TestArraysHoldTheImages(t *testing.T) {
	const n = 57
	dir := filepath.Join(t.TempDir(), "test")
	testkit.OK(t, run([]string{"-split", "test", "-n", "57", "-out", dir, "-workers", "3"}, io.Discard))
	images, labels := array(t, filepath.Join(dir, "images.npy"), "(57, 48, 48, )"), array(t, filepath.Join(dir, "labels.npy"), "(57, )")
	const pixels = glyphs.Size * glyphs.Size
	if len(images) != n*pixels || len(labels) != n {
		t.Fatalf("%d bytes of images, %d labels", len(images), len(labels))
	}
	for i := range n {
		want, label := glyphs.Image(glyphs.Test, uint32(i))
		if !bytes.Equal(images[i*pixels:(i+1)*pixels], want) || int(labels[i]) != label {
			t.Errorf("image %d is not that of package glyphs", i)
		}
	}
}

// array reads the elements of an array of this shape, by NumPy's description of format version 1.0.
func array(t *testing.T, file, shape string) []byte {
	t.Helper()
	data := testkit.Must(os.ReadFile(file))(t)
	if !bytes.HasPrefix(data, []byte("\x93NUMPY\x01\x00")) {
		t.Fatalf("%s begins with %q", file, data[:8])
	}
	start := 10 + int(data[8]) + int(data[9])<<8
	header := string(data[10:start])
	if start%64 != 0 || !strings.HasSuffix(header, "\n") || !strings.Contains(header, shape) || !strings.Contains(header, "'|u1'") {
		t.Errorf("%s: header %q", file, header)
	}
	return data[start:]
}

func TestSheetHasAColumnPerClass(t *testing.T) {
	sequential.Skip(t)
	file := filepath.Join(t.TempDir(), "sheet.png")
	testkit.OK(t, run([]string{"-sheet", file}, io.Discard))
	data := testkit.Must(os.ReadFile(file))(t)
	config, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width != 50*len(glyphs.Classes) {
		t.Errorf("%v, %v", config, err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for args, want := range map[string]string{
		"-split training -out x": "training",
		"-split test":            "nothing to write",
		"-out x -n 0":            "-n 0",
		"-out x -workers 0":      "-workers 0",
		"-out x -n 99999999":     "99999999",
	} {
		testkit.Fails(t, run(strings.Fields(args), io.Discard), want)
	}
}
