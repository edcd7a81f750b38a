// Command glyphs writes images of package glyphs to files: arrays that NumPy
// reads, for scripts/train_glyphs.py, and a sheet to look at.
//
//	go run ./scripts/glyphs -split train -n 60000 -out DIR   # DIR/images.npy, DIR/labels.npy
//	go run ./scripts/glyphs -split test -sheet sheet.png     # the first images of each class
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/numpy"
	"github.com/terastal/terastal/internal/ort"
)

func main() {
	switch err := run(os.Args[1:], os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "glyphs:", err)
		os.Exit(1)
	}
}

func run(args []string, usage io.Writer) error {
	flags := flag.NewFlagSet("glyphs", flag.ContinueOnError)
	flags.SetOutput(usage)
	name := flags.String("split", "train", "train, calibration or test")
	n := flags.Uint("n", 60000, "number of images, from the first of the split")
	out := flags.String("out", "", "folder for images.npy, uint8 [n, 48, 48], and labels.npy, uint8 [n]")
	sheet := flags.String("sheet", "", "PNG file for a sheet with a column per class")
	workers := flags.Int("workers", 2, "images to render at the same time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	split, err := glyphs.ParseSplit(*name)
	if err != nil {
		return err
	}
	if *out == "" && *sheet == "" {
		return errors.New("nothing to write: give -out DIR, -sheet FILE or both")
	}
	if *sheet != "" {
		if err := writeSheet(*sheet, split); err != nil {
			return err
		}
	}
	if *out == "" {
		return nil
	}
	if *n < 1 || *n > 1<<24 || *workers < 1 {
		return fmt.Errorf("-n %d -workers %d: want 1 to %d images and a worker", *n, *workers, 1<<24)
	}
	return writeArrays(*out, split, int(*n), *workers)
}

func writeArrays(folder string, split glyphs.Split, n, workers int) error {
	const pixels = glyphs.Size * glyphs.Size
	images, labels := make([]byte, n*pixels), make([]byte, n)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				image, label := glyphs.Image(split, uint32(i))
				copy(images[i*pixels:], image)
				labels[i] = byte(label)
			}
		})
	}
	group.Wait()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := writeArray(filepath.Join(folder, "images.npy"), images, int64(n), glyphs.Size, glyphs.Size); err != nil {
		return err
	}
	return writeArray(filepath.Join(folder, "labels.npy"), labels, int64(n))
}

// writeArray writes bytes as a NumPy array.
func writeArray(file string, data []byte, shape ...int64) error {
	array, err := numpy.Encode(ort.Uint8, shape, data)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, array, 0o644)
}

func writeSheet(file string, split glyphs.Split) error {
	const rows, gap = 16, 2
	classes := len(glyphs.Classes)
	sheet := image.NewGray(image.Rect(0, 0, classes*(glyphs.Size+gap), rows*(glyphs.Size+gap)))
	for i := range rows * classes {
		pixels, label := glyphs.Image(split, uint32(i))
		tile := &image.Gray{Pix: pixels, Stride: glyphs.Size, Rect: image.Rect(0, 0, glyphs.Size, glyphs.Size)}
		corner := image.Pt(label*(glyphs.Size+gap), i/classes*(glyphs.Size+gap))
		draw.Draw(sheet, tile.Rect.Add(corner), tile, image.Point{}, draw.Src)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, sheet); err != nil {
		return err
	}
	return renameio.WriteFile(file, b.Bytes(), 0o644)
}
