package models_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// Load a model from a file, cut it into blocks, see that the layers compute what
// the whole model computes, and write them to a folder. ONNX Runtime has to be
// started first, by runtime.Start.
func ExampleLoad() {
	folder, err := os.MkdirTemp("", "layers-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	data, err := zoo.Build("glyph_resnet", 1)
	if err != nil {
		log.Fatal(err)
	}
	file := filepath.Join(folder, "glyphs.onnx")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		log.Fatal(err)
	}

	m, err := models.Load(file, models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	g, err := models.ParseGranularity("block")
	if err != nil {
		log.Fatal(err)
	}
	layers, err := m.Split(g)
	if err != nil {
		log.Fatal(err)
	}
	v, err := models.Verify(m, layers, models.RandomInputs(m, 1), "none", false)
	if err != nil {
		log.Fatal(err)
	}
	files, err := models.WriteLayers(filepath.Join(folder, "layers"), layers)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Name(), m.Inputs(), "in", len(files), "layers, identical:", v.Identical)
	fmt.Println("the first is", filepath.Base(files[0]), "and makes", layers[0].Outputs[0].Shape)
	// Output:
	// glyphs [input float32[1 1 48 48]] in 6 layers, identical: true
	// the first is 000.onnx and makes [1 32 24 24]
}

// Cut a model at every convolution and look at the pieces. ONNX Runtime has to
// be started first, by runtime.Start.
func ExampleModel_Split() {
	data, err := zoo.Build("ds_cnn_kws", 1)
	if err != nil {
		log.Fatal(err)
	}
	m, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	g, err := models.ParseGranularity("op")
	if err != nil {
		log.Fatal(err)
	}
	layers, err := m.Split(g)
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range layers[:2] {
		fmt.Println(l.Ops, l.MACs, l.Outputs[0].Shape)
	}
	fmt.Println(len(layers), "layers")
	// Output:
	// [Conv Relu] 320000 [1 64 25 5]
	// [Conv Relu] 72000 [1 64 25 5]
	// 10 layers
}
