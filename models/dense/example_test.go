package dense_test

import (
	"fmt"
	"log"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
)

// A camera gives pixels row by row, a model takes one channel after the other:
// turn them around, write them to the model's input, read its scores.
func Example() {
	pixels := tensor.New(tensor.WithShape(2, 2, 3), tensor.WithBacking([]float32{
		255, 0, 10, 254, 1, 11,
		253, 2, 12, 252, 3, 13,
	}))
	if err := pixels.T(2, 0, 1); err != nil { // height, width, channels to channels, height, width
		log.Fatal(err)
	}
	if err := pixels.Transpose(); err != nil {
		log.Fatal(err)
	}
	if err := pixels.Reshape(1, 3, 2, 2); err != nil {
		log.Fatal(err)
	}
	input := models.Tensor{Name: "input", Type: 1, Shape: []int64{1, 3, 2, 2}} // as Model.Inputs gives it
	if err := dense.Fits(pixels, input); err != nil {
		log.Fatal(err)
	}
	data, err := dense.Bytes(pixels) // for runtime.NewTensor
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), "bytes:", pixels.Float32s()[:4], "...")

	output := models.Tensor{Name: "scores", Type: 1, Shape: []int64{1, 2}}
	scores, err := dense.Of(output, []byte{0, 0, 0, 0, 0, 0, 128, 63}) // what the accelerator wrote
	if err != nil {
		log.Fatal(err)
	}
	best, err := scores.Argmax(1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("class", best.Data())
	// Output:
	// 48 bytes: [255 254 253 252] ...
	// class [1]
}
