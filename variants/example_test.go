package variants_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// The cheaper forms of a convolution that there are, before they are fitted.
func ExampleCandidates() {
	data, err := zoo.Build("ds_cnn_kws", 1)
	if err != nil {
		log.Fatal(err)
	}
	m, err := models.Parse("kws", data, models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	n, err := runtime.NewNetwork("kws", m, "op")
	if err != nil {
		log.Fatal(err)
	}
	list, _ := variants.Candidates(&n.Layers[0], variants.Exact)
	for _, c := range list {
		fmt.Printf("%s: %.2f of the multiply-accumulates\n", c, float64(c.MACs)/float64(c.OriginalMACs))
	}
	// Output:
	// lowrank rank 16: 0.65 of the multiply-accumulates
	// lowrank rank 8: 0.33 of the multiply-accumulates
	// lowrank rank 7: 0.28 of the multiply-accumulates
	// lowrank rank 5: 0.20 of the multiply-accumulates
	// lowrank rank 2: 0.08 of the multiply-accumulates
	// int8 integer: 1.00 of the multiply-accumulates
	// int8 equalised: 1.00 of the multiply-accumulates
	// int8 qdq: 1.00 of the multiply-accumulates
}

// Hold an implementation that was trained elsewhere against a layer of a
// network, on the user's data.
func ExampleNew() {
	var network *runtime.Network // split by models.Model.Split
	var data accuracy.Data       // inputs of the network
	m, err := models.Load("narrow.onnx", models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := variants.New(&network.Layers[2], "rank 12", m)
	if err != nil {
		log.Fatal(err) // matches variants.ErrBoundary: not the layer's inputs and outputs
	}
	if err := c.Compare(context.Background(), network, data, nil); err != nil {
		log.Fatal(err) // matches variants.ErrNotFinite: it makes NaN or infinity
	}
	fmt.Printf("%s: error %.2g\n", c.String(), c.Error)
	u, err := c.Unit()
	if err != nil {
		log.Fatal(err)
	}
	network.Variants = map[int][]runtime.Unit{c.Layer: {u}}
	proof, err := accuracy.Prove(context.Background(), network, data, accuracy.Agreement(), accuracy.Options{})
	if err != nil {
		log.Fatal(err)
	}
	alone, _ := proof.Of(1)
	fmt.Printf("alone it keeps %.2f %% of the %s\n", 100*alone, proof.Metric)
}
