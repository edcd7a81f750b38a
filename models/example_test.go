package models_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

func TestMain(m *testing.M) { orttest.Main(m) }

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
