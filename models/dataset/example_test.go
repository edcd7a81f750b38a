package dataset_test

import (
	"fmt"
	"log"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/models/zoo"
)

// Open the images that the project renders itself as inputs of a network that
// names the characters on them. ONNX Runtime has to be started first, by
// runtime.Start.
func ExampleOpen() {
	data, err := zoo.Build("glyph_vgg", 1)
	if err != nil {
		log.Fatal(err)
	}
	m, err := models.Parse("glyphs", data, models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	set, err := dataset.Open(dataset.Spec{Source: "glyphs:test", First: 10, Count: 100}, m)
	if err != nil {
		log.Fatal(err)
	}
	inputs, err := set.Inputs(0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Len(), "requests of", inputs[0].Dtype(), inputs[0].Shape(), "labelled:", set.Labelled())
	fmt.Println("the first shows class", set.Label(0))
	// Output:
	// 100 requests of float32 (1, 1, 48, 48) labelled: true
	// the first shows class 10
}
